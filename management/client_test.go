package management

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/topology"
)

const secret = "pa:ss/w@rd"

// serve starts an API with answers by path and query. The path is not decoded. A number before the answer is its status.
func serve(t *testing.T, answers map[string]string) (*Client, *httptest.Server) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "us@er" || password != secret {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"not_authorized","reason":"Not_Authorized"}`)
			return
		}
		answer, ok := answers[r.URL.RequestURI()]
		if !ok {
			t.Errorf("unexpected %s %s", r.Method, r.URL.RequestURI())
		}
		status := http.StatusOK
		if before, after, cut := strings.Cut(answer, " "); cut && len(before) == 3 {
			_, _ = fmt.Sscan(before, &status)
			answer = after
		}
		if status/100 == 3 {
			w.Header().Set("Location", answer)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return client(t, Config{URL: withUser(s.URL)}), s
}

func client(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func withUser(url string) string {
	return strings.Replace(url, "://", "://us%40er:pa%3Ass%2Fw%40rd@", 1)
}

// The answers of RabbitMQ 4.3.6 for a virtual host "a/b", shortened.
var recorded = map[string]string{
	"/api/overview?disable_stats=true": `{"management_version":"4.3.6","rates_mode":"basic","sample_retention_policies":{"global":[600,3600,28800,86400],"basic":[600,3600]},
		"product_version":"4.3.6","product_name":"RabbitMQ","rabbitmq_version":"4.3.6","cluster_name":"rabbit@node1","erlang_version":"27",
		"disable_stats":false,"default_queue_type":"classic","node":"rabbit@node1","listeners":[{"node":"rabbit@node1","protocol":"amqp","port":5672}]}`,
	"/api/whoami": `{"name":"us@er","tags":["management"],"is_internal_user":true}`,
	"/api/vhosts": `[{"cluster_state":{"rabbit@node1":"running"},"default_queue_type":"undefined","description":"Default virtual host","metadata":{"description":"Default virtual host","tags":[]},"name":"/","tags":[],"tracing":false},
		{"name":"a/b","description":"","default_queue_type":"quorum","tags":["x"]}]`,
	"/api/exchanges/a%2Fb?page=1&page_size=500&disable_stats=true": `{"filtered_count":2,"item_count":2,"items":[
		{"arguments":{},"auto_delete":false,"durable":true,"internal":false,"name":"","type":"direct","user_who_performed_action":"rmq-internal","vhost":"a/b"},
		{"arguments":{"alternate-exchange":"unrouted","x-size":12345678901234567},"auto_delete":true,"durable":false,"internal":true,"name":"in","policy":"p","type":"topic","vhost":"a/b"}
		],"page":1,"page_count":1,"page_size":500,"total_count":2}`,
	"/api/queues/a%2Fb?page=1&page_size=500": `{"filtered_count":5,"item_count":2,"items":[
		{"arguments":{"x-queue-type":"quorum","x-message-ttl":60000,"x-nested":{"n":[1,1.5,{}]}},"auto_delete":false,"consumers":2,"durable":true,
		 "effective_policy_definition":{"max-length":5},"exclusive":false,"messages":7,"messages_ready":4,"messages_unacknowledged":3,"name":"a",
		 "node":"rabbit@node1","operator_policy":"op","policy":null,"state":"running","type":"quorum","vhost":"a/b"},
		{"arguments":{},"auto_delete":true,"durable":false,"exclusive":true,"name":"b","node":"rabbit@node1","owner_pid_details":{"name":"127.0.0.1:1 -> 127.0.0.1:5672"},"state":"running","type":"classic","vhost":"a/b"}
		],"page":1,"page_count":3,"page_size":500,"total_count":5}`,
	"/api/queues/a%2Fb?page=2&page_size=500": `{"filtered_count":6,"item_count":2,"items":[
		{"arguments":{},"auto_delete":true,"durable":false,"exclusive":true,"name":"b","state":"running","type":"classic","vhost":"a/b"},
		{"arguments":{"x-max-age":"1D"},"auto_delete":false,"consumers":0,"durable":true,"exclusive":false,"messages":0,"messages_ready":0,"messages_unacknowledged":0,"name":"c","state":"minority","type":"stream","vhost":"a/b"}
		],"page":2,"page_count":3,"page_size":500,"total_count":6}`,
	"/api/queues/a%2Fb?page=3&page_size=500": `{"filtered_count":5,"item_count":1,"items":[
		{"arguments":{},"auto_delete":false,"durable":true,"exclusive":false,"name":"d","state":"running","type":"classic","vhost":"a/b"}
		],"page":3,"page_count":3,"page_size":500,"total_count":5}`,
	"/api/bindings/a%2Fb": `[{"source":"","vhost":"a/b","destination":"a","destination_type":"queue","routing_key":"a","arguments":{},"properties_key":"a"},
		{"source":"in","vhost":"a/b","destination":"a","destination_type":"queue","routing_key":"order.*","arguments":{"n":5},"properties_key":"order.*~hash"},
		{"source":"in","vhost":"a/b","destination":"out","destination_type":"exchange","routing_key":"","arguments":{},"properties_key":"~"}]`,
	"/api/policies/a%2Fb":          `[{"vhost":"a/b","name":"p","pattern":"^in","apply-to":"exchanges","definition":{"alternate-exchange":"x"},"priority":3}]`,
	"/api/operator-policies/a%2Fb": `[{"vhost":"a/b","name":"op","pattern":".*","apply-to":"queues","definition":{"max-length":5},"priority":0}]`,
}

// with returns recorded with other answers.
func with(answers map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range []map[string]string{recorded, answers} {
		for path, answer := range m {
			all[path] = answer
		}
	}
	return all
}

func TestExistingShowsAVirtualHostFromAllPages(t *testing.T) {
	c, _ := serve(t, recorded)
	got, err := c.Existing(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	want := topology.Existing{
		Version: "4.3.6",
		Topology: topology.Topology{
			Exchanges: []topology.Exchange{
				{Name: "", Type: topology.Direct},
				{Name: "in", Type: topology.Topic, Transient: true, AutoDelete: true, Internal: true, Arguments: amqp.Table{"alternate-exchange": "unrouted", "x-size": int64(12345678901234567)}},
			},
			Queues: []topology.Queue{
				{Name: "a", Type: topology.Quorum, Arguments: amqp.Table{"x-queue-type": "quorum", "x-message-ttl": int64(60000), "x-nested": amqp.Table{"n": []any{int64(1), 1.5, amqp.Table(nil)}}}},
				{Name: "b", Type: topology.Classic, Transient: true, AutoDelete: true, Exclusive: true},
				{Name: "c", Type: topology.Stream, Arguments: amqp.Table{"x-max-age": "1D"}},
				{Name: "d", Type: topology.Classic},
			},
			Bindings: []topology.Binding{{Source: "in", Queue: "a", Key: "order.*", Arguments: amqp.Table{"n": int64(5)}}, {Source: "in", Exchange: "out"}},
		},
		Usage: map[string]topology.Usage{"a": {Messages: 7, Consumers: 2, State: "running"}, "c": {State: "minority"}},
		Policies: []topology.Policy{
			{Name: "p", Pattern: "^in", ApplyTo: "exchanges", Priority: 3, Definition: amqp.Table{"alternate-exchange": "x"}},
			{Name: "op", Pattern: ".*", ApplyTo: "queues", Definition: amqp.Table{"max-length": int64(5)}, Operator: true},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Existing =\n%#v, want\n%#v", got, want)
	}
}

func TestAListThatBecomesShorterEndsEarly(t *testing.T) {
	c, _ := serve(t, with(map[string]string{
		"/api/queues/a%2Fb?page=3&page_size=500": `400 {"error":"page_out_of_range","reason":"Page out of range, page: 3 page size: 500, len: 4"}`,
	}))
	if all, err := c.Queues(t.Context(), "a/b"); err != nil || len(all) != 3 {
		t.Errorf("Queues = %v, %v, want three", all, err)
	}
}

func TestObjectsHaveTheFieldsOfRabbitMQ(t *testing.T) {
	c, _ := serve(t, recorded)
	ctx := t.Context()
	overview, err := c.Overview(ctx)
	if want := (Overview{"4.3.6", "4.3.6", "27", "rabbit@node1", "rabbit@node1", "classic"}); err != nil || overview != want {
		t.Errorf("Overview = %+v, %v, want %+v", overview, err, want)
	}
	user, err := c.WhoAmI(ctx)
	if want := (User{"us@er", []string{"management"}}); err != nil || !reflect.DeepEqual(user, want) {
		t.Errorf("WhoAmI = %+v, %v, want %+v", user, err, want)
	}
	hosts, err := c.VirtualHosts(ctx)
	if want := []VirtualHost{{"/", "Default virtual host", "undefined"}, {"a/b", "", "quorum"}}; err != nil || !reflect.DeepEqual(hosts, want) {
		t.Errorf("VirtualHosts = %+v, %v, want %+v", hosts, err, want)
	}
	queues, err := c.Queues(ctx, "a/b")
	if err != nil || len(queues) != 4 {
		t.Fatalf("Queues = %v, %v", queues, err)
	}
	if q := queues[0]; q.Node != "rabbit@node1" || q.Policy != "" || q.OperatorPolicy != "op" || q.Ready != 4 || q.Unacked != 3 {
		t.Errorf("queue a = %+v", q)
	}
	if q := queues[1]; q.Messages != -1 || q.Ready != -1 || q.Unacked != -1 || q.Consumers != -1 {
		t.Errorf("queue b, not counted yet = %+v", q)
	}
	exchanges, err := c.Exchanges(ctx, "a/b")
	if err != nil || len(exchanges) != 2 || exchanges[1].Policy != "p" {
		t.Errorf("Exchanges = %+v, %v", exchanges, err)
	}
}

func TestExistingStatesThatPoliciesWereNotSeen(t *testing.T) {
	denied := `401 {"error":"not_authorised","reason":"User not authorised to access object"}`
	c, _ := serve(t, with(map[string]string{"/api/policies/a%2Fb": denied}))
	e, err := c.Existing(t.Context(), "a/b")
	if err != nil || len(e.Unseen) != 1 || e.Unseen[0].What != "policies" || !strings.Contains(e.Unseen[0].Why, "give the user the tag policymaker") {
		t.Errorf("Existing = %v, %v", e.Unseen, err)
	}
	c, _ = serve(t, with(map[string]string{"/api/operator-policies/a%2Fb": "500 {}"}))
	if _, err := c.Existing(t.Context(), "a/b"); err == nil {
		t.Error("Existing after another error = nil")
	}
}

func TestErrorsNameTheNextStep(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		status int
		text   string
	}{
		"not management":  {`401 {"error":"not_authorised","reason":"Not management user"}`, 401, "401 not_authorised: Not management user; give the user the tag management or monitoring"},
		"no virtual host": {`401 {"error":"not_authorised","reason":"User not authorised to access virtual host"}`, 401, "virtual host; give the user permissions for the virtual host"},
		"forbidden":       {`403 {"error":"forbidden","reason":"no"}`, 403, "403 forbidden: no; give the user the tag"},
		"login":           {`401 {"error":"not_authorized","reason":"Login failed"}`, 401, "401 not_authorized: Login failed; check the user and the password"},
		"missing":         {`404 {"error":"Object Not Found","reason":"Not Found"}`, 404, "404 Object Not Found: Not Found; check the name of the virtual host"},
		"other server":    {`404 <html>Not Found</html>`, 404, "404 Not Found; there is no management API at this URL: check the host and the port, and enable RabbitMQ's plugin rabbitmq_management"},
		"redirect":        {"302 https://us:pass@elsewhere/", 302, "302 redirected to https://us:xxxxx@elsewhere/; set Config.URL to that address"},
		"proxy":           {"<html>log in</html>", 200, "invalid character '<' looking for beginning of value; check the URL, which may lead to a proxy"},
		"gateway":         {"502 <html>bad</html>", 502, "502 Bad Gateway; check the URL, which may lead to a proxy"},
		"failure":         {`500 {"error":"Internal Server Error","reason":"a\nb"}`, 500, `500 Internal Server Error: a\nb`},
		"no JSON object":  {"[1]", 200, "check the URL"},
		"nothing":         {"", 200, "EOF; check the URL"},
	} {
		client, _ := serve(t, map[string]string{"/api/overview?disable_stats=true": c.answer})
		_, err := client.Overview(t.Context())
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Status != c.status || e.Method != http.MethodGet || e.Path != "/api/overview" {
			t.Errorf("%s: %+v", name, err)
			continue
		}
		if text := err.Error(); !strings.HasPrefix(text, "management: GET /api/overview: ") || !strings.Contains(text, c.text) {
			t.Errorf("%s: %s, want %s", name, text, c.text)
		}
		noSecret(t, err)
	}
}

func TestUnreadableListsAreErrors(t *testing.T) {
	for path, answers := range map[string][]string{
		"/api/queues/a%2Fb?page=1&page_size=500": {"[]", "{}", `{"items":[5],"page_count":1}`, `{"items":[{"name":5}],"page_count":1}`, `{"items":[`},
		"/api/bindings/a%2Fb":                    {"{}", `[{"source":5}]`, `[{"source":"a"}`, "", `[{"source":"a"},`},
	} {
		for _, answer := range answers {
			c, _ := serve(t, with(map[string]string{path: answer}))
			if _, err := c.Existing(t.Context(), "a/b"); err == nil {
				t.Errorf("%s: %q is read without an error", path, answer)
			}
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	c, _ := serve(t, recorded)
	c.maxBytes = 100
	_, err := c.Bindings(t.Context(), "a/b")
	if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Error(), "longer than 100 bytes") {
		t.Errorf("Bindings = %v", err)
	}
}

func TestNoAnswerNamesTheNextStep(t *testing.T) {
	c, s := serve(t, recorded)
	s.Close()
	_, err := c.Overview(t.Context())
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 0 || !strings.Contains(e.Error(), "enable RabbitMQ's plugin rabbitmq_management") || strings.Contains(e.Error(), "http://") {
		t.Errorf("Overview = %v", err)
	}
	noSecret(t, err)

	// The port of AMQP.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("AMQP\x00\x00\x09\x01"))
			_ = conn.Close()
		}
	}()
	_, err = client(t, Config{URL: withUser("http://" + l.Addr().String())}).Overview(t.Context())
	if err == nil || !strings.Contains(err.Error(), "check the URL: its scheme, host and port") {
		t.Errorf("Overview from AMQP = %v", err)
	}
	noSecret(t, err)
}

func TestEveryCallEndsWithItsContext(t *testing.T) {
	stop := make(chan struct{})
	started := make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, `{"items":[`)
		w.(http.Flusher).Flush()
		started <- struct{}{}
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(stop)
	c := client(t, Config{URL: s.URL})
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-started
		cancel(reason)
	}()
	if _, err := c.Queues(ctx, "/"); !errors.Is(err, reason) || strings.Contains(err.Error(), "check the URL") {
		t.Errorf("Queues = %v, want %v", err, reason)
	}
	short := client(t, Config{URL: s.URL, Timeout: time.Millisecond})
	_, err := short.Queues(t.Context(), "/")
	if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, context.DeadlineExceeded) || e.Path != "/api/queues/%2F" {
		t.Errorf("Queues after the timeout = %v", err)
	}
}

func TestThePasswordReachesOnlyTheHostOfTheURL(t *testing.T) {
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	c, _ := serve(t, map[string]string{"/api/overview?disable_stats=true": "307 " + other.URL + "/api/overview"})
	if _, err := c.Overview(t.Context()); err == nil || asked {
		t.Errorf("Overview = %v, the other host was asked: %v", err, asked)
	}
}

func TestGuestIsTheUserOfAURLWithoutOne(t *testing.T) {
	var got string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		got = user + " " + password + " " + r.URL.Path
		_, _ = io.WriteString(w, "{}")
	}))
	defer s.Close()
	if _, err := client(t, Config{URL: s.URL + "/rabbit/"}).WhoAmI(t.Context()); err != nil || got != "guest guest /rabbit/api/whoami" {
		t.Errorf("WhoAmI = %v, by %s", err, got)
	}
}

// noSecret fails if formatting v shows the password.
func noSecret(t *testing.T, v any) {
	t.Helper()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		text := fmt.Sprintf(format, v)
		for _, s := range []string{secret, "pa%3Ass", "pa%3ass", fmt.Sprintf("%x", secret)} {
			if strings.Contains(text, s) {
				t.Errorf("%s of %T shows the password: %s", format, v, text)
			}
		}
	}
}

func TestFormattingShowsNoPassword(t *testing.T) {
	for _, url := range []string{withUser("http://localhost:15672"), "http://us%40er:pa%3Ass%2Fw%40rd@:bad:", "amqp://u:" + secret + "@h", "http://u:" + secret} {
		cfg := Config{URL: url}
		noSecret(t, cfg)
		noSecret(t, &cfg)
		noSecret(t, struct{ Inner Config }{cfg})
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("starting", "config", cfg)
		noSecret(t, log.String())
		c, err := New(cfg)
		noSecret(t, err)
		if err == nil {
			noSecret(t, c)
			noSecret(t, struct{ Inner *Client }{c})
		}
	}
	if got, want := fmt.Sprint(Config{URL: withUser("http://localhost:15672")}), "management.Config{URL: http://us%40er:xxxxx@localhost:15672}"; got != want {
		t.Errorf("Config = %s, want %s", got, want)
	}
}

func TestNewNamesEveryInvalidField(t *testing.T) {
	for url, problem := range map[string]string{
		"": "URL: is empty", "http://h:bad": "URL: is malformed", "amqp://h": "URL: is the address of AMQP; use FromAMQP", "localhost:15672": "URL: does not begin with http",
		"http://": "URL: names no host", "http://h/?a=b": "URL: has a query",
	} {
		_, err := New(Config{URL: url, Timeout: -1})
		if e, ok := errors.AsType[*amqperr.FieldError](err); !ok || e.Fix == "" || !strings.Contains(err.Error(), "management: "+problem) || !strings.Contains(err.Error(), "Timeout: is negative") {
			t.Errorf("New(%q) = %v, want %s", url, err, problem)
		}
	}
}

func TestFromAMQPFindsTheAPIOfTheBroker(t *testing.T) {
	for from, want := range map[string][2]string{
		"amqp://us%40er:pa%3Ass%2Fw%40rd@host:5673/a%2Fb": {"http://us%40er:pa%3Ass%2Fw%40rd@host:15672", "a/b"},
		"amqps://u:p@host":                       {"https://u:p@host:15671", "/"},
		"amqp://host/":                           {"http://guest:guest@host:15672", "/"},
		"amqp://u:p@[::1]:5672/v?heartbeat=5":    {"http://u:p@[::1]:15672", "v"},
		"amqps://u:p@h/v?cacertfile=/etc/ca.pem": {"https://u:p@h:15671", "v"},
	} {
		cfg, host, err := FromAMQP(from)
		if err != nil || cfg.URL != want[0] || host != want[1] {
			t.Errorf("FromAMQP(%q) = %s, %q, %v, want %q", from, cfg.URL, host, err, want)
		}
		if _, err := New(cfg); err != nil {
			t.Error(err)
		}
	}
	for _, from := range []string{"", "http://h", "amqp://u:" + secret + "@h", "amqp://h:bad"} {
		if _, _, err := FromAMQP(from); err == nil {
			t.Errorf("FromAMQP(%q) = nil", from)
		} else {
			noSecret(t, err)
		}
	}
}

func FuzzArgumentsKeepTheirIntegers(f *testing.F) {
	f.Add(int64(1)<<62, `{"a":[{"b":null}]}`)
	f.Fuzz(func(t *testing.T, n int64, other string) {
		d := json.NewDecoder(strings.NewReader(fmt.Sprintf(`{"n":%d,"t":{"n":[%d]}}`, n, n)))
		d.UseNumber()
		var args amqp.Table
		if err := d.Decode(&args); err != nil {
			t.Fatal(err)
		}
		want := amqp.Table{"n": n, "t": amqp.Table{"n": []any{n}}}
		if got := table(args); !reflect.DeepEqual(got, want) {
			t.Errorf("table = %#v, want %#v", got, want)
		}
		d = json.NewDecoder(strings.NewReader(other))
		d.UseNumber()
		if args = nil; d.Decode(&args) == nil {
			_ = table(args)
		}
	})
}
