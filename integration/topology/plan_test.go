package topology

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/management"
	"github.com/amqpkit/amqpkit/topology"
)

// A host is a virtual host of a test, with a client of the management API.
type host struct {
	name string
	*management.Client
}

func newHost(t *testing.T) host {
	t.Helper()
	h := host{kit.Unique("plan/"), api(t, "guest", "guest")}
	call(t, http.MethodPut, "vhosts/"+url.PathEscape(h.name), struct{}{})
	t.Cleanup(func() { call(t, http.MethodDelete, "vhosts/"+url.PathEscape(h.name), nil) })
	return h
}

func api(t *testing.T, user, password string) *management.Client {
	t.Helper()
	u, err := url.Parse(kit.ManagementURL(t))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	c, err := management.New(management.Config{URL: u.String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// call makes a request that package management does not offer. It returns the answer.
func call(t *testing.T, method, path string, body any) []byte {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, kit.ManagementURL(t)+"/api/"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s = %s %s, %v", method, path, resp.Status, answer, err)
	}
	return answer
}

// user creates a user with tags and one permission for the host, unless it is "none".
func (h host) user(t *testing.T, tags, permission string) (name string) {
	t.Helper()
	name = kit.Unique("user")
	call(t, http.MethodPut, "users/"+name, map[string]any{"password": name, "tags": tags})
	t.Cleanup(func() { call(t, http.MethodDelete, "users/"+name, nil) })
	if permission != "none" {
		call(t, http.MethodPut, "permissions/"+url.PathEscape(h.name)+"/"+name, map[string]string{"configure": permission, "write": permission, "read": permission})
	}
	return name
}

func (h host) dial(t *testing.T, user, password string) *amqp.Connection {
	t.Helper()
	u, err := amqp.ParseURI(kit.Broker(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Vhost, u.Username, u.Password = h.name, user, password
	ac, err := amqp.Dial(u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.Close() })
	return ac
}

func (h host) declare(t *testing.T, topo topology.Topology) {
	t.Helper()
	if err := topo.Declare(t.Context(), h.dial(t, "guest", "guest")); err != nil {
		t.Fatal(err)
	}
}

func (h host) existing(t *testing.T) topology.Existing {
	t.Helper()
	e, err := h.Existing(t.Context(), h.name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// policy creates a policy, or an operator policy.
func (h host) policy(t *testing.T, p topology.Policy) {
	t.Helper()
	path := "policies/"
	if p.Operator {
		path = "operator-policies/"
	}
	call(t, http.MethodPut, path+url.PathEscape(h.name)+"/"+p.Name, map[string]any{
		"pattern": p.Pattern, "apply-to": p.ApplyTo, "priority": p.Priority, "definition": p.Definition,
	})
}

// planned returns a topology with arguments of many types. It is valid on RabbitMQ 4.0.
func planned() topology.Topology {
	free := amqp.Table{
		"x-bool": true, "x-int8": int8(-5), "x-int16": int16(5), "x-int": 5, "x-int64": int64(1) << 60, "x-float": 0.1, "x-float32": float32(0.1), "x-whole": 5.0,
		"x-text": "é", "x-empty": "", "x-bytes": []byte("bytes"), "x-binary": []byte("\xff\xfe" + strings.Repeat("x", 200)), "x-time": time.Unix(1e9, 0), "x-nil": nil,
		"x-table": amqp.Table{"b": int16(1), "a": []any{1, "x", amqp.Table{}}}, "x-decimal": amqp.Decimal{Scale: 2, Value: 345}, "x-list": []any{},
	}
	topo := topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: "in", Type: topology.Topic, AlternateExchange: "rest", Arguments: amqp.Table{"x-free": 5}, AllowUnknownArguments: true},
			{Name: "rest", Type: topology.Fanout, Internal: true},
			{Name: "brief", Type: topology.Headers, Transient: true, AutoDelete: true},
		},
		Queues: []topology.Queue{
			{Name: "plain"},
			{Name: "classic", Type: topology.Classic, MaxPriority: 5, Expires: time.Hour, Overflow: topology.RejectPublish, AutoDelete: true},
			{
				Name: "quorum", MessageTTL: time.Minute, MaxLength: 5, MaxLengthBytes: 1 << 40, DeliveryLimit: new(topology.Unlimited), SingleActiveConsumer: true, LeaderLocator: "balanced",
				Overflow: topology.RejectPublish, DeadLetter: &topology.DeadLetter{Exchange: "in", RoutingKey: "dead", Strategy: topology.AtLeastOnce},
			},
			{Name: "stream", Type: topology.Stream, MaxAge: 24 * time.Hour, MaxSegmentBytes: 1 << 20},
			{Name: "free", Type: topology.Classic, Arguments: free, AllowUnknownArguments: true},
			{Name: `quo"te/ü`, Type: topology.Classic},
		},
		Bindings: []topology.Binding{
			{Source: "in", Queue: "plain", Key: "a.*"},
			{Source: "in", Queue: "plain", Key: "b.#"},
			{Source: "in", Exchange: "rest", Key: "~"},
			{Source: "rest", Queue: `quo"te/ü`},
			{Source: "amq.topic", Queue: "stream", Key: "%2F"},
		},
	}
	for key, v := range free {
		topo.Bindings = append(topo.Bindings, topology.Binding{Source: "brief", Queue: "plain", Key: key, Arguments: amqp.Table{"x-match": "any-with-x", key: v}, AllowUnknownArguments: true})
	}
	return topo
}

func TestPlanOfADeclaredTopologyKeepsEverything(t *testing.T) {
	h, topo := newHost(t), planned()
	if p := topology.Diff(topo, h.existing(t)); p.Count(topology.Create) != len(p.Changes) {
		t.Errorf("before:\n%s", p)
	}
	h.declare(t, topo)
	before := definitions(t, h)
	p := topology.Diff(topo, h.existing(t))
	for _, c := range p.Changes {
		if c.Action != topology.Keep || len(c.Notes) > 0 {
			t.Error(c)
		}
	}
	if p.Drift() || len(p.Unseen) > 0 {
		t.Errorf("drift %v, unseen %v", p.Drift(), p.Unseen)
	}

	found, err := topo.Probe(t.Context(), h.dial(t, "guest", "guest"))
	if err != nil {
		t.Fatal(err)
	}
	if p := topology.Diff(topo, found); p.Drift() || p.Count(topology.Unknown) != len(topo.Bindings) {
		t.Errorf("by passive declarations:\n%s", p)
	}
	other := topology.Topology{Exchanges: []topology.Exchange{{Name: "new", Type: topology.Topic}}, Queues: []topology.Queue{{Name: "new"}, {Name: "plain"}}}
	if found, err = other.Probe(t.Context(), h.dial(t, "guest", "guest")); err != nil {
		t.Fatal(err)
	}
	if p := topology.Diff(other, found); p.Count(topology.Create) != 2 || p.Count(topology.Keep) != 1 {
		t.Errorf("by passive declarations:\n%s", p)
	}
	if after := definitions(t, h); after != before {
		t.Errorf("planning changed the definitions:\n%s\nbefore:\n%s", after, before)
	}
}

// definitions returns everything in a virtual host.
func definitions(t *testing.T, h host) string {
	t.Helper()
	return string(call(t, http.MethodGet, "definitions/"+url.PathEscape(h.name), nil))
}

func TestPlanFindsMissingUnmanagedAndSurplusObjects(t *testing.T) {
	h := newHost(t)
	has := topology.Topology{
		Exchanges: []topology.Exchange{{Name: "in", Type: topology.Topic}, {Name: "theirs", Type: topology.Fanout}},
		Queues:    []topology.Queue{{Name: "q"}, {Name: "old", Type: topology.Classic}},
		Bindings:  []topology.Binding{{Source: "in", Queue: "q", Key: "a"}, {Source: "in", Queue: "q", Key: "b"}, {Source: "theirs", Queue: "q"}, {Source: "theirs", Queue: "old"}},
	}
	h.declare(t, has)
	ac := h.dial(t, "guest", "guest") // with an exclusive queue
	if _, err := (topology.Queue{Type: topology.Classic, Exclusive: true}).Declare(t.Context(), ac); err != nil {
		t.Fatal(err)
	}
	wanted := topology.Topology{
		Exchanges: has.Exchanges[:1],
		Queues:    []topology.Queue{{Name: "q"}, {Name: "new", Type: topology.Stream}},
		Bindings:  []topology.Binding{has.Bindings[0], {Source: "in", Queue: "new", Key: "#"}},
	}
	p := topology.Diff(wanted, h.existing(t))
	for i := range p.Changes {
		p.Changes[i].Usage = nil // not counted yet, or zero
	}
	want := `+ queue "new" (stream)
+ binding of queue "new" to exchange "in" with key "#"
- binding of queue "q" to exchange "in" with key "b": surplus
- binding of queue "q" to exchange "theirs" with key "": surplus
. exchange "theirs" (fanout): unmanaged
. queue "old" (classic): unmanaged
2 to create, 2 surplus, 3 unchanged, 2 unmanaged`
	if got := p.String(); got != want {
		t.Errorf("plan:\n%s\nwant:\n%s", got, want)
	}
}

// pair is an object as it exists and as it is wanted.
type pair struct{ has, want topology.Queue }

// values are values of a queue argument, with equal ones among them.
var values = map[string][]any{
	"x-message-ttl":                   {nil, 60000, int16(1000), int64(1000)},
	"x-expires":                       {nil, 3600000, int64(3600000), 7200000},
	"x-max-length":                    {nil, 0, 5, int64(5)},
	"x-max-length-bytes":              {nil, 1 << 20, int64(1) << 20, int64(1) << 40},
	"x-overflow":                      {nil, "drop-head", "reject-publish"},
	"x-dead-letter-exchange":          {nil, "", "amq.fanout", "amq.topic"},
	"x-single-active-consumer":        {nil, true, false},
	"x-queue-leader-locator":          {nil, "balanced", "client-local"},
	"x-delivery-limit":                {nil, -1, 0, 5, int8(5)},
	"x-quorum-initial-group-size":     {nil, 1, int64(1), 3},
	"x-quorum-target-group-size":      {nil, 1, 3},
	"x-max-in-memory-length":          {nil, 1, 3},
	"x-delayed-retry-type":            {nil, "failed", "all", "disabled"},
	"x-delayed-retry-min":             {nil, 1000, int64(1000), 2000},
	"x-delayed-retry-max":             {nil, 1000, 9000},
	"x-consumer-timeout":              {nil, 60000, int64(60000), 70000},
	"x-consumer-disconnected-timeout": {nil, 60000, 70000},
	"x-max-priority":                  {nil, 1, int8(1), 5},
	"x-queue-mode":                    {nil, "default", "lazy"},
	"x-queue-version":                 {nil, 2, int64(2)},
	"x-max-age":                       {nil, "1D", "24h", "1440m", "86400s", "1h", "60m", "1Y", "365D", "12M", "360D", "01D"},
	"x-stream-max-segment-size-bytes": {nil, 1 << 20, int64(1) << 20, 1 << 21},
	"x-stream-filter-size-bytes":      {nil, 16, int64(16), 17},
	"x-initial-cluster-size":          {nil, 1, int64(1)},
	"x-free":                          {nil, 1, int64(1), "1", true},
}

// pairs returns a pair for each two values of each argument on each type, and random ones with several arguments.
func pairs(r *rand.Rand) (all []pair) {
	types := []topology.QueueType{topology.Classic, topology.Quorum, topology.Stream}
	set := func(q *topology.Queue, key string, v any) {
		if v != nil {
			q.Arguments[key] = v
		}
	}
	empty := func(kind topology.QueueType) topology.Queue {
		return topology.Queue{Type: kind, Arguments: amqp.Table{}, AllowUnknownArguments: true}
	}
	keys := []string{}
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, kind := range types {
		for _, key := range keys {
			for i, has := range values[key] {
				for _, want := range values[key][i:] {
					for range 2 {
						p := pair{empty(kind), empty(kind)}
						set(&p.has, key, has)
						set(&p.want, key, want)
						all = append(all, p)
						has, want = want, has
					}
				}
			}
		}
	}
	random := func() topology.Queue {
		q := empty(types[r.IntN(len(types))])
		if q.Type == topology.Classic {
			q.Transient, q.AutoDelete = r.IntN(4) == 0, r.IntN(4) == 0
		}
		for _, key := range keys {
			if r.IntN(5) == 0 {
				set(&q, key, values[key][r.IntN(len(values[key]))])
			}
		}
		return q
	}
	for range 600 {
		all = append(all, pair{random(), random()})
	}
	return all
}

func TestPlanRecreatesExactlyWhereRabbitMQRefuses(t *testing.T) {
	h := newHost(t)
	var has, want topology.Topology
	for _, p := range pairs(rand.New(rand.NewPCG(1, 2))) {
		p.has.Name = fmt.Sprint("queue-", len(has.Queues))
		p.want.Name = p.has.Name
		one := topology.Topology{Queues: []topology.Queue{p.want}}
		// Both must be valid.
		if (topology.Topology{Queues: []topology.Queue{p.has}}).Validate() == nil && one.Validate() == nil {
			has.Queues, want.Queues = append(has.Queues, p.has), append(want.Queues, p.want)
		}
	}
	ac := h.dial(t, "guest", "guest")
	refused := byObject(t, has.Declare(t.Context(), ac))
	e := h.existing(t)
	plan := topology.Diff(want, e)
	conflicts := byObject(t, want.Declare(t.Context(), ac))

	recreated, kept, invalid := 0, 0, 0
	for i, c := range plan.Changes[:len(want.Queues)] {
		var conflict *topology.ConflictError
		switch err := conflicts[c.Object]; {
		case refused[c.Object] != nil, err != nil && !errors.As(err, &conflict):
			invalid++ // on this version, or one of the two
		case (conflict != nil) != (c.Action == topology.Recreate):
			t.Errorf("%s\n    RabbitMQ: %v\n    has %v, want %v", c, err, has.Queues[i].Arguments, want.Queues[i].Arguments)
		case conflict == nil:
			kept++
		default:
			recreated++
			if !slices.ContainsFunc(c.Differences, func(d topology.Difference) bool {
				return d.Attribute == conflict.Attribute && (d.Attribute == "x-max-age" || // 4.3.6 reports milliseconds
					valueText(d.Has) == conflict.Has && valueText(d.Want) == conflict.Want)
			}) {
				t.Errorf("%s\n    lacks %v", c, conflict)
			}
		}
	}
	fmt.Fprintf(os.Stderr, "RabbitMQ %s: %d pairs of queues: %d recreated and refused, %d kept and accepted, %d invalid\n",
		e.Version, len(want.Queues), recreated, kept, invalid)
	if recreated < 200 || kept < 200 {
		t.Errorf("%d recreated, %d kept: want more of both", recreated, kept)
	}
}

// valueText returns a value as a ConflictError shows it.
func valueText(v any) string {
	if v == nil {
		return "none"
	}
	return fmt.Sprint(v)
}

// byObject returns the errors of Declare by the object that they name.
func byObject(t *testing.T, err error) map[string]error {
	t.Helper()
	all := map[string]error{}
	for _, err := range joined(err) {
		var conflict *topology.ConflictError
		var refused *topology.DeclareError
		switch {
		case errors.As(err, &conflict):
			all[conflict.Object] = err
		case errors.As(err, &refused):
			all[refused.Object] = err
		default:
			t.Fatal(err)
		}
	}
	return all
}

func TestPlanRecreatesExchangesExactlyWhereRabbitMQRefuses(t *testing.T) {
	h := newHost(t)
	var variants []topology.Exchange
	for _, kind := range []topology.ExchangeType{topology.Direct, topology.Topic} {
		for bits := range 8 {
			variants = append(variants, topology.Exchange{Type: kind, Transient: bits&1 > 0, AutoDelete: bits&2 > 0, Internal: bits&4 > 0})
		}
		for _, args := range []amqp.Table{{"alternate-exchange": "amq.fanout"}, {"alternate-exchange": "amq.topic"}, {"alternate-exchange": ""}, {"x-free": 1}, {"x-free": 2}} {
			variants = append(variants, topology.Exchange{Type: kind, Arguments: args, AllowUnknownArguments: true})
		}
	}
	var has, want topology.Topology
	for _, x := range variants {
		for _, y := range variants {
			x.Name = fmt.Sprint("exchange-", len(has.Exchanges))
			y.Name = x.Name
			has.Exchanges, want.Exchanges = append(has.Exchanges, x), append(want.Exchanges, y)
		}
	}
	h.declare(t, has)
	plan := topology.Diff(want, h.existing(t))
	conflicts := byObject(t, want.Declare(t.Context(), h.dial(t, "guest", "guest")))
	for i, c := range plan.Changes {
		conflict := &topology.ConflictError{}
		refused := errors.As(conflicts[c.Object], &conflict)
		if refused != (c.Action == topology.Recreate) || !refused && conflicts[c.Object] != nil {
			t.Errorf("%s\n    RabbitMQ: %v\n    has %v, want %v", c, conflicts[c.Object], has.Exchanges[i], want.Exchanges[i])
		}
		if refused && !slices.ContainsFunc(c.Differences, func(d topology.Difference) bool { return d.Attribute == conflict.Attribute }) {
			t.Errorf("%s\n    lacks %v", c, conflict)
		}
	}
	if plan.Count(topology.Keep) < len(variants) || plan.Count(topology.Recreate) < len(variants) {
		t.Errorf("%d kept, %d recreated", plan.Count(topology.Keep), plan.Count(topology.Recreate))
	}
}

// Whether a policy applies is RabbitMQ's decision.
func TestPlanNamesThePoliciesThatRabbitMQApplies(t *testing.T) {
	kit.Needs43(t) // older ones show policies only in their statistics
	h := newHost(t)
	low := amqp.Table{"max-length-bytes": 1}
	and := func(key string, v any) amqp.Table { return amqp.Table{"max-length-bytes": 1, key: v} }
	r := rand.New(rand.NewPCG(3, 4))
	var policies []topology.Policy
	definitions := []amqp.Table{
		low, and("max-age", "1h"), and("delivery-limit", 3), and("expires", 3600000), and("dead-letter-strategy", "at-most-once"), and("queue-mode", "lazy"),
		and("overflow", "drop-head"), and("consumer-timeout", 60000), and("queue-leader-locator", "balanced"), and("stream-max-segment-size-bytes", 1<<20), and("dead-letter-exchange", ""),
	}
	for i, definition := range definitions {
		for j, applyTo := range []string{"all", "queues", "exchanges", "quorum_queues", "classic_queues", "streams"} {
			policies = append(policies, topology.Policy{
				Name: fmt.Sprintf("policy-%d-%d", i, j), ApplyTo: applyTo, Priority: 1 + r.IntN(1<<20), Definition: definition,
				Pattern: fmt.Sprintf("^[%s].*%d$", string(rune('a'+r.IntN(3)))+string(rune('a'+r.IntN(3))), r.IntN(3)),
			})
		}
	}
	policies = append(policies,
		topology.Policy{Name: "operator", ApplyTo: "queues", Pattern: "^op", Definition: low, Operator: true},
		topology.Policy{Name: "both", ApplyTo: "queues", Pattern: "^op-b", Definition: amqp.Table{"max-length-bytes": 3}},
	)
	for _, p := range policies {
		h.policy(t, p)
	}
	var topo topology.Topology
	for _, kind := range []topology.QueueType{topology.Quorum, topology.Classic, topology.Stream} {
		for _, first := range []string{"a", "b", "c", "op-a", "op-b", "x"} {
			for last := range 3 {
				topo.Queues = append(topo.Queues, topology.Queue{Name: fmt.Sprintf("%s-%s-%d", first, kind, last), Type: kind, MaxLengthBytes: 9})
			}
		}
	}
	before := topology.Diff(topo, h.existing(t))
	h.declare(t, topo)
	after := topology.Diff(topo, h.existing(t))
	applied := map[string]string{}
	var queues []struct {
		Name, Policy string
		Operator     string `json:"operator_policy"`
	}
	answer := call(t, http.MethodGet, "queues/"+url.PathEscape(h.name)+"?disable_stats=true", nil) // the statistics lag
	if err := json.Unmarshal(answer, &queues); err != nil {
		t.Fatal(err)
	}
	for _, q := range queues {
		applied[q.Name] = q.Policy
		if q.Operator != "" {
			applied[q.Name] = q.Operator
		}
	}
	if applied["op-a-quorum-0"] != "operator" || applied["op-b-stream-1"] != "operator" {
		t.Fatalf("applied: %v", applied)
	}
	with, without := 0, 0
	for i, q := range topo.Queues {
		for when, c := range map[string]topology.Change{"before": before.Changes[i], "after": after.Changes[i]} {
			if applied[q.Name] == "" {
				without++
				if len(c.Notes) > 0 {
					t.Errorf("%s: %s, and RabbitMQ applies no policy", when, c)
				}
				continue
			}
			with++
			if want := fmt.Sprintf("policy %q", applied[q.Name]); len(c.Notes) != 1 || !strings.HasSuffix(c.Notes[0], want) ||
				!strings.HasPrefix(c.Notes[0], "x-max-length-bytes is 9 in the declaration and 1 in effect") {
				t.Errorf("%s: %s, want %s", when, c, want)
			}
		}
	}
	if with < 20 || without < 10 {
		t.Errorf("%d with a policy, %d without", with, without)
	}
	if after.Drift() {
		t.Errorf("a policy is drift:\n%s", after)
	}
}

func TestPlanForUsersWithFewPermissions(t *testing.T) {
	h := newHost(t)
	topo := topology.Topology{Exchanges: []topology.Exchange{{Name: "in", Type: topology.Topic}}, Queues: []topology.Queue{{Name: "q", MaxLength: 5}}, Bindings: []topology.Binding{{Source: "in", Queue: "q"}}}
	h.declare(t, topo)

	seeing := h.user(t, "management", "^$") // may do nothing
	e, err := api(t, seeing, seeing).Existing(t.Context(), h.name)
	if err != nil || len(e.Unseen) > 0 {
		t.Errorf("Existing = %v, %v, want everything", e.Unseen, err)
	}
	if p := topology.Diff(topo, e); p.Count(topology.Keep) != 3 {
		t.Errorf("plan:\n%s", p)
	}
	for name, c := range map[string]struct{ user, password, host, text string }{
		"tag":          {h.user(t, "", ".*"), "", h.name, "give the user the tag management"},
		"permission":   {h.user(t, "management", "none"), "", h.name, "permissions for"},
		"password":     {seeing, "wrong", h.name, "check the user and the password"},
		"virtual host": {"guest", "guest", "no/where", "check the name of the virtual host"},
	} {
		if c.password == "" {
			c.password = c.user
		}
		_, err := api(t, c.user, c.password).Existing(t.Context(), c.host)
		if e, ok := errors.AsType[*management.Error](err); !ok || !strings.Contains(e.Error(), c.text) {
			t.Errorf("%s: %v, want %s", name, err, c.text)
		}
	}

	// Passive declarations need a permission for the object, on RabbitMQ 4.3.
	if !kit.Broker(t).AtLeast(4, 3) {
		return
	}
	topo.Queues = append(topo.Queues, topology.Queue{Name: "missing"})
	for permission, want := range map[string]map[string]topology.Action{
		"^$":        {`queue "q"`: topology.Unknown, `exchange "in"`: topology.Unknown, `queue "missing"`: topology.Unknown},
		"^(q|in)$":  {`queue "q"`: topology.Keep, `exchange "in"`: topology.Keep, `queue "missing"`: topology.Unknown},
		".*":        {`queue "q"`: topology.Keep, `exchange "in"`: topology.Keep, `queue "missing"`: topology.Create},
		"^missing$": {`queue "q"`: topology.Unknown, `exchange "in"`: topology.Unknown, `queue "missing"`: topology.Create},
	} {
		user := h.user(t, "", permission)
		found, err := topo.Probe(t.Context(), h.dial(t, user, user))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range topology.Diff(topo, found).Changes {
			if action, ok := want[c.Object]; ok && c.Action != action {
				t.Errorf("with permission %s: %s, want %s; %v", permission, c, action, found.Unseen)
			}
		}
	}
}

func TestPlanShowsTheUsageOfAQueueToRecreate(t *testing.T) {
	h := newHost(t)
	h.declare(t, topology.Queues("q"))
	ac := h.dial(t, "guest", "guest")
	ch, err := ac.Channel()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := ch.PublishWithContext(t.Context(), "", "q", true, false, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ch.Consume("q", "", false, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	topo := topology.Topology{Queues: []topology.Queue{{Name: "q", MaxLength: 5}}}
	const want = `~ queue "q" (quorum, 3 messages, 1 consumer): recreate
    x-max-length: none -> 5
1 to recreate`
	got := ""
	kit.WaitFor(t, func() bool {
		got = topology.Diff(topo, h.existing(t)).String()
		return got == want
	})
}

func TestAThousandObjectsArePlannedInTwoSeconds(t *testing.T) {
	h := newHost(t)
	topo := thousand(func(name string) string { return name })
	h.declare(t, topo)
	fastest := time.Hour
	for range 3 {
		start := time.Now()
		p := topology.Diff(topo, h.existing(t))
		fastest = min(fastest, time.Since(start))
		if p.Count(topology.Keep) != 1000 || len(p.Changes) != 1000 {
			t.Fatalf("plan:\n%s", p)
		}
	}
	fmt.Fprintf(os.Stderr, "planning 1,000 objects takes %v\n", fastest.Round(time.Millisecond))
	if fastest > 2*time.Second {
		t.Errorf("planning 1,000 objects took %v", fastest)
	}
}
