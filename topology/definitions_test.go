package topology

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/definitions"
)

// everything uses each field and each type of argument that JSON can hold.
var everything = Topology{
	Exchanges: []Exchange{
		{Name: "orders", Type: Topic, AlternateExchange: "unrouted"},
		{Name: "unrouted", Type: Fanout, Transient: true, AutoDelete: true, Internal: true},
		{Name: "later", Type: "x-delayed-message", Arguments: amqp.Table{"x-delayed-type": "topic"}},
		{Name: "new", Type: Direct, Arguments: amqp.Table{"x-new": 1, "alternate-exchange": ""}, AllowUnknownArguments: true},
	},
	Queues: []Queue{
		{Name: "plain"},
		{Name: "<html> & \"quotes\" \u2028", Type: Quorum},
		{
			Name: "quorum", MessageTTL: time.Hour, Expires: 1001 * time.Millisecond, MaxLength: 1 << 40, MaxLengthBytes: 5, Overflow: RejectPublish,
			DeadLetter: &DeadLetter{Exchange: "dead", RoutingKey: "key", Strategy: AtLeastOnce}, DeliveryLimit: new(0),
			DelayedRetry: &DelayedRetry{Min: time.Second, Max: time.Minute, Type: "all"}, SingleActiveConsumer: true, LeaderLocator: "balanced",
		},
		{Name: "retry", DelayedRetry: &DelayedRetry{Min: time.Second}, DeliveryLimit: new(Unlimited), DeadLetter: &DeadLetter{}},
		{Name: "classic", Type: Classic, Transient: true, AutoDelete: true, MaxPriority: 255, Arguments: amqp.Table{"x-queue-mode": "lazy"}},
		{Name: "stream", Type: Stream, MaxAge: 36 * time.Hour, MaxSegmentBytes: 100},
		{Name: "zeros", Arguments: amqp.Table{"x-message-ttl": 0, "x-max-length": int32(0), "x-single-active-consumer": false, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": ""}},
		{Name: "raw", Arguments: amqp.Table{"x-delayed-retry-type": "disabled", "x-delayed-retry-min": 5, "x-max-age": "1D", "x-delivery-limit": int64(1) << 40}},
		{Name: "min only", Arguments: amqp.Table{"x-delayed-retry-type": "all", "x-delayed-retry-min": 5}},
		{Name: "hours", Type: Stream, Arguments: amqp.Table{"x-max-age": "24h"}},
		{Name: "types", AllowUnknownArguments: true, Arguments: amqp.Table{
			"x-a": nil, "x-b": true, "x-c": int8(-1), "x-d": uint64(1 << 62), "x-e": 1.0, "x-f": float32(0.1), "x-g": 1e300, "x-h": []any{1, "a", []any{}}, "x-i": amqp.Table{"k": amqp.Table{}},
			"x-j": int64(9007199254740993), "x-k": int64(-1 << 63),
		}},
	},
	Bindings: []Binding{
		{Source: "orders", Queue: "plain", Key: "order.*"},
		{Source: "orders", Exchange: "unrouted"},
		{Source: "amq.headers", Queue: "plain", Arguments: amqp.Table{"x-match": "any", "n": 1}},
		{Source: "orders", Queue: "quorum", Arguments: amqp.Table{"xmatch": 1}, AllowUnknownArguments: true},
	},
}

func TestDefinitionsDeclareTheSameObjects(t *testing.T) {
	for _, host := range []string{"", "/", "orders é"} {
		data, err := everything.Definitions(host)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ReadDefinitions(data, host)
		if err != nil || len(read.Unsupported) > 0 {
			t.Fatalf("ReadDefinitions = %v, %v", read.Unsupported, err)
		}
		if len(read.Topology.Exchanges) != len(everything.Exchanges) || len(read.Topology.Queues) != len(everything.Queues) || len(read.Topology.Bindings) != len(everything.Bindings) {
			t.Fatalf("read %+v", read.Topology)
		}
		for i, x := range everything.Exchanges {
			got := read.Topology.Exchanges[i]
			if got.Name != x.Name || len(differing(plain(t, got.attributes()), plain(t, x.attributes()))) > 0 || got.AllowUnknownArguments != x.AllowUnknownArguments {
				t.Errorf("got %+v, want %+v", got, x)
			}
		}
		for i, q := range everything.Queues {
			got := read.Topology.Queues[i]
			if got.Name != q.Name || len(differing(plain(t, got.attributes()), plain(t, q.attributes()))) > 0 || got.AllowUnknownArguments != q.AllowUnknownArguments {
				t.Errorf("got %+v, want %+v", got, q)
			}
		}
		for i, b := range everything.Bindings {
			got := read.Topology.Bindings[i]
			if got.label() != b.label() || len(differing(plain(t, got.Arguments), plain(t, b.Arguments))) > 0 || got.AllowUnknownArguments != b.AllowUnknownArguments {
				t.Errorf("got %+v, want %+v", got, b)
			}
		}
		again, err := read.Topology.Definitions(host)
		if err != nil || string(again) != string(data) {
			t.Errorf("written again: %v\n%s\nwant\n%s", err, again, data)
		}
	}
}

// plain returns attributes with the types that RabbitMQ compares: it ignores the size of numbers.
func plain(t *testing.T, attributes amqp.Table) amqp.Table {
	t.Helper()
	table, p := definitions.Plain(attributes)
	if p != nil {
		t.Fatalf("%+v", p)
	}
	return table
}

func TestReadDefinitionsSetsFieldsIfTheySendTheSame(t *testing.T) {
	data, err := everything.Definitions("")
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadDefinitions(data, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, q := range everything.Queues {
		switch q.Name {
		case "zeros", "raw", "min only", "types": // values without a field, or with numbers of other types
			continue
		case "retry":
			q.DelayedRetry = &DelayedRetry{Min: time.Second, Type: "failed"}
		}
		q.Type = q.kind()
		if got := read.Topology.Queues[i]; !reflect.DeepEqual(got, q) {
			t.Errorf("got\n%+v\nwant\n%+v", got, q)
		}
	}
	for i, x := range everything.Exchanges[:3] {
		if got := read.Topology.Exchanges[i]; !reflect.DeepEqual(got, x) {
			t.Errorf("got %+v, want %+v", got, x)
		}
	}
}

func TestReadDefinitionsOfRabbitMQ(t *testing.T) {
	data, err := os.ReadFile("testdata/rabbitmq-4.3.json")
	if err != nil {
		t.Fatal(err)
	}
	d, err := ReadDefinitions(data, "/")
	if err != nil {
		t.Fatal(err)
	}
	var unsupported []string
	for _, u := range d.Unsupported {
		unsupported = append(unsupported, u.String())
	}
	want := []string{
		"users (1)", "vhosts (2)", "permissions (1)", "global_parameters (2)", "policies (1)", "queues that RabbitMQ named (1)",
		`queues of virtual host "test" (1)`, `bindings of virtual host "test" (1)`,
	}
	if !slices.Equal(unsupported, want) {
		t.Errorf("Unsupported = %q, want %q", unsupported, want)
	}
	if u := d.Unsupported[0]; u.Line != 9 || u.Column != 3 {
		t.Errorf("users are at %d:%d, want 9:3", u.Line, u.Column)
	}
	wantQueues := []Queue{
		{
			Name: "billing", Type: Quorum, MessageTTL: time.Hour, DeadLetter: &DeadLetter{RoutingKey: "billing.failed"}, DeliveryLimit: new(5),
			DelayedRetry: &DelayedRetry{Min: time.Second, Max: time.Minute, Type: "all"},
		},
		{Name: "billing.failed", Type: Quorum, DeliveryLimit: new(Unlimited)},
		{Name: "no type", Type: Classic},
		{Name: "transient", Type: Classic, Transient: true, AutoDelete: true, Expires: time.Minute, MaxPriority: 5, Arguments: amqp.Table{"x-message-ttl": int64(0)}},
		{Name: "events", Type: Stream, MaxLengthBytes: 20_000_000_000, MaxSegmentBytes: 100_000_000, Arguments: amqp.Table{"x-max-age": "1D"}},
	}
	if !reflect.DeepEqual(d.Topology.Queues, wantQueues) {
		t.Errorf("Queues =\n%+v\nwant\n%+v", d.Topology.Queues, wantQueues)
	}
	if want := (amqp.Table{"x-match": "any", "amount": int64(9007199254740993), "rate": 1.0, "list": []any{int64(1), "a", nil, amqp.Table{"deep": true}}}); !reflect.DeepEqual(d.Topology.Bindings[2].Arguments, want) {
		t.Errorf("Arguments = %#v, want %#v", d.Topology.Bindings[2].Arguments, want)
	}
	if err := d.Topology.Validate(); err != nil {
		t.Error(err)
	}
	written, err := d.Topology.Definitions("/")
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range []string{"exchanges", "queues", "bindings"} {
		before, after := objects(t, data, section), objects(t, written, section)
		for _, object := range before {
			if object["vhost"] != "/" || object["name"] == "amq.gen-1" {
				continue
			}
			if section == "queues" && object["type"] == nil { // RabbitMQ exported a classic queue
				object["type"] = "classic"
			}
			if section == "queues" {
				object["arguments"].(map[string]any)["x-queue-type"] = object["type"]
			}
			if !slices.ContainsFunc(after, func(o map[string]any) bool { return reflect.DeepEqual(o, object) }) {
				t.Errorf("%s: %v is lost", section, object)
			}
		}
	}
}

func objects(t *testing.T, data []byte, section string) (list []map[string]any) {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(all[section])))
	dec.UseNumber()
	if err := dec.Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestReadDefinitionsSelectsAVirtualHost(t *testing.T) {
	const one = `{"queues": [{"name": "a"}], "original_vhost_name": "orders", "default_queue_type": "quorum"}`
	const two = `{"vhosts": [{"name": "empty"}, {"name": "b", "default_queue_type": "quorum"}], "queues": [{"name": "a", "vhost": "a"}, {"name": "b", "vhost": "b"}, {"name": "c", "vhost": "b", "durable": false}]}`
	for _, test := range []struct{ data, host, want string }{
		{one, "", "quorum a"},
		{one, "any", "quorum a"},
		{two, "a", "classic a"},
		{two, "b", "quorum b classic c"},
		{two, "empty", ""},
		{two, "c", `topology: line 1, column 1: the file does not have the virtual host "c", but "a", "b"; name one of them`},
		{two, "", `topology: line 1, column 1: the file has objects of the virtual hosts "a", "b"; name the virtual host to read`},
		{`{"queues": [{"name": "a", "vhost": "a"}]}`, "", "classic a"},
		{`{"vhosts": []}`, "any", ""},
	} {
		d, err := ReadDefinitions([]byte(test.data), test.host)
		var got []string
		for _, q := range d.Topology.Queues {
			got = append(got, string(q.Type), q.Name)
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%q: got %q, want %q", test.host, got, test.want)
		}
	}
}

func TestReadDefinitionsReadsNoDurations(t *testing.T) {
	d, err := ReadDefinitions([]byte(`{"queues": [{"name": "q", "arguments": {"x-message-ttl": "1h"}}]}`), "")
	if err != nil || d.Topology.Queues[0].Arguments["x-message-ttl"] != "1h" || d.Topology.Validate() == nil {
		t.Errorf("ReadDefinitions = %+v, %v, want the string, which Validate refuses", d.Topology, err)
	}
}

func TestReadDefinitionsReportsEveryFaultWithItsPlace(t *testing.T) {
	_, err := ReadDefinitions([]byte("{\n  \"queus\": [],\n  \"é\": 1, \"queues\": [{\"name\": 5, \"durable\": 1}]\n}"), "")
	want := `topology: line 2, column 3: queus: is unknown; did you mean "queues"?
topology: line 3, column 31: queues[0].name: is a number; write a string
topology: line 3, column 45: queues[0].durable: is a number; write true or false`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	file, ok := errors.AsType[*amqperr.FileError](err)
	field, _ := errors.AsType[*amqperr.FieldError](err)
	if !ok || file.Line != 2 || file.Column != 3 || field == nil || field.Field != "queus" || !amqperr.IsPermanent(err) {
		t.Errorf("the error has no FileError and FieldError, or is not permanent: %#v", err)
	}
}

func TestDefinitionsNamesWhatJSONCannotHold(t *testing.T) {
	for _, test := range []struct {
		topology Topology
		want     string
	}{
		{exchanges(Exchange{Name: "\xff", Type: "\xff"}), "Exchanges[0] \"\\xff\".Name Exchanges[0] \"\\xff\".Type"},
		{exchanges(Exchange{Name: "x", Arguments: args("a", []byte("b"))}), `Exchanges[0] "x".Arguments["a"]`},
		{queues(Queue{Name: "q", Arguments: args("a", amqp.Table{"b": []any{1, time.Now()}})}), `Queues[0] "q".Arguments["a"]["b"][1]`},
		{queues(Queue{Name: "q", Arguments: args("a", amqp.Decimal{})}), `Queues[0] "q".Arguments["a"]`},
		{queues(Queue{Name: "q", Arguments: args("a", time.Second)}), `Queues[0] "q".Arguments["a"]`},
		{queues(Queue{Name: "q", Arguments: args("a", uint64(1<<63))}), `Queues[0] "q".Arguments["a"]`},
		{queues(Queue{Name: "q", Type: Classic, Exclusive: true}), `Queues[0] "q".Exclusive`},
		{bindings(Binding{Source: "x", Queue: "q"}, Binding{Source: "x", Queue: "q", Exchange: "e", Arguments: args("\xff", 1)}), `Bindings[1].Queue Bindings[1].Arguments["\xff"]`},
	} {
		data, err := test.topology.Definitions("/")
		if got := strings.Join(fields(err), " "); got != test.want || data != nil {
			t.Errorf("Definitions = %v, want faults of %s", err, test.want)
		}
	}
}

func TestTypesOfArgumentsInFilesAreTheOnesThatAreChecked(t *testing.T) {
	want := map[form][]string{}
	for _, arguments := range append(slices.Collect(maps.Values(exchangeArguments)), queueArguments) {
		for key, k := range arguments {
			if !slices.Contains(want[k.form], key) {
				want[k.form] = append(want[k.form], key)
			}
		}
	}
	for form, got := range map[form][]string{number: slices.Concat(definitions.Times, definitions.Numbers), flag: definitions.Flags} {
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want[form]))) {
			t.Errorf("%s: %q, want %q", form, got, want[form])
		}
	}
}

func FuzzReadDefinitions(f *testing.F) {
	data, err := os.ReadFile("testdata/rabbitmq-4.3.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, "/")
	all, err := everything.Definitions("")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(all, "")
	f.Add([]byte(`{"queues": [{"name": "\ud83d\ude00", "arguments": {"a": [1.5e3, -0, null, {}]}}]}`), "")
	f.Add([]byte(strings.Repeat(`{"a":[`, 50)), "")
	f.Fuzz(func(t *testing.T, data []byte, host string) {
		d, err := ReadDefinitions(data, host)
		if err != nil {
			return
		}
		written, err := d.Topology.Definitions("/")
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, err := ReadDefinitions(written, "/")
		if err != nil || !reflect.DeepEqual(again.Topology, d.Topology) {
			t.Fatalf("read again: %v\n%+v\nwant\n%+v", err, again.Topology, d.Topology)
		}
	})
}
