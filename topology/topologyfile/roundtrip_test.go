package topologyfile_test

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/topology"
	"github.com/amqpkit/amqpkit/topology/topologyfile"
)

// everything uses each field, each type of argument, and names that readers of YAML may take for other values.
var everything = topology.Topology{
	Exchanges: []topology.Exchange{
		{Name: "orders", Type: topology.Topic, AlternateExchange: "unrouted"},
		{Name: "unrouted", Type: topology.Fanout, Transient: true, AutoDelete: true, Internal: true},
		{Name: "later", Type: "x-delayed-message", Arguments: amqp.Table{"x-delayed-type": "topic"}},
		{Name: "new", Type: topology.Direct, Arguments: amqp.Table{"x-new": int64(1)}, AllowUnknownArguments: true},
	},
	Queues: []topology.Queue{
		{Name: "plain"},
		{Name: "no"},
		{Name: "Y"},
		{Name: "null"},
		{Name: "~"},
		{Name: "2026"},
		{Name: "1e3"},
		{Name: "0x1f"},
		{Name: "1_000"},
		{Name: "12:30:45"},
		{Name: "2026-11-30"},
		{Name: "<<"},
		{Name: "="},
		{Name: ".inf"},
		{Name: "a: b"},
		{Name: "- a"},
		{Name: "# a"},
		{Name: " a "},
		{Name: "*a"},
		{Name: "é\u2028\u0085\ufeff😀"},
		{Name: "${NAME}"},
		{Name: "$${NAME}"},
		{Name: "$"},
		{Name: "'\"\\"},
		{Name: strings.Repeat("n", 255)},
		{Name: "?"},
		{Name: "{a: [b]}"},
		{Name: "true"},
		{Name: "explicit", Type: topology.Quorum},
		{
			Name: "quorum", MessageTTL: time.Hour, Expires: 1001 * time.Millisecond, MaxLength: 1 << 40, MaxLengthBytes: 5, Overflow: topology.RejectPublish,
			DeadLetter: &topology.DeadLetter{Exchange: "no", RoutingKey: "1", Strategy: topology.AtLeastOnce}, DeliveryLimit: new(0),
			DelayedRetry: &topology.DelayedRetry{Min: time.Second, Max: 36 * time.Hour, Type: "all"}, SingleActiveConsumer: true, LeaderLocator: "balanced",
		},
		{Name: "retry", DelayedRetry: &topology.DelayedRetry{Min: time.Second}, DeliveryLimit: new(topology.Unlimited), DeadLetter: &topology.DeadLetter{RoutingKey: "plain"}},
		{Name: "classic", Type: topology.Classic, Transient: true, AutoDelete: true, Exclusive: true, MaxPriority: 255, Arguments: amqp.Table{"x-queue-mode": "lazy"}},
		{Name: "stream", Type: topology.Stream, MaxAge: 48 * time.Hour, MaxSegmentBytes: 100},
		{Name: "zeros", Arguments: amqp.Table{"x-message-ttl": int64(0), "x-max-length": int64(0), "x-single-active-consumer": false}},
		{Name: "types", AllowUnknownArguments: true, Arguments: amqp.Table{
			"x-a": nil, "x-b": true, "x-c": int64(-1), "x-e": 1.0, "x-g": 1e300, "x-h": []any{int64(1), "a", []any{}}, "x-i": amqp.Table{"k": amqp.Table{}, "no": "yes"},
			"x-j": int64(9007199254740993), "x-k": "5", "x-l": "1e3", "x-m": "", "x-n": "2026-11-30", "x-o": "a\nb\n", "x-p": "null", "x-q": "${NAME}", "x-r": "1h", "x-s": "\x00\x7f",
		}},
	},
	Bindings: []topology.Binding{
		{Source: "orders", Queue: "plain", Key: "order.*"},
		{Source: "orders", Exchange: "unrouted"},
		{Source: "amq.headers", Queue: "plain", Arguments: amqp.Table{"x-match": "any", "n": int64(1), "country": "no"}},
		{Source: "orders", Queue: "quorum", Key: "5", Arguments: amqp.Table{"xmatch": int64(1)}, AllowUnknownArguments: true},
	},
}

func TestMarshalKeepsEverything(t *testing.T) {
	data, err := topologyfile.Marshal(everything)
	if err != nil {
		t.Fatal(err)
	}
	got, err := loader().Parse(data)
	if err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	compare(t, got, everything)
	if err := resolved(t, topologyfile.Schema()).Validate(generic(t, "yaml", data)); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
	for _, name := range []string{"no", "Y", "null", "true", "2026", "1e3", "12:30:45", "2026-11-30"} { // something else in YAML 1.1
		if !strings.Contains(string(data), "\n  \""+name+"\":") {
			t.Errorf("%s is written without quotes", name)
		}
	}
	empty, err := topologyfile.Marshal(topology.Topology{})
	if err != nil || string(empty) != "{}\n" {
		t.Errorf("nothing is written as %q, %v", empty, err)
	}
}

func compare(t *testing.T, got, want topology.Topology) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	for i := range max(len(got.Exchanges), len(want.Exchanges)) {
		if i >= len(got.Exchanges) || i >= len(want.Exchanges) || !reflect.DeepEqual(got.Exchanges[i], want.Exchanges[i]) {
			t.Fatalf("exchange %d: got\n%+v\nwant\n%+v", i, got.Exchanges, want.Exchanges)
		}
	}
	for i := range max(len(got.Queues), len(want.Queues)) {
		if i >= len(got.Queues) || i >= len(want.Queues) || !reflect.DeepEqual(got.Queues[i], want.Queues[i]) {
			t.Fatalf("queue %d: got\n%+v\nwant\n%+v", i, got.Queues[i:], want.Queues[i:])
		}
	}
	t.Fatalf("bindings: got\n%+v\nwant\n%+v", got.Bindings, want.Bindings)
}

func TestDefinitionsAreLoadedAsTheyAreRead(t *testing.T) {
	data, err := os.ReadFile("../testdata/rabbitmq-4.3.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := topology.ReadDefinitions(data, "/")
	if err != nil {
		t.Fatal(err)
	}
	l := loader()
	l.VirtualHost = "/"
	var unsupported []topology.Unsupported
	l.Unsupported = func(_ string, u topology.Unsupported) { unsupported = append(unsupported, u) }
	got, err := l.Parse(data)
	if err != nil || !reflect.DeepEqual(unsupported, want.Unsupported) {
		t.Fatalf("Unsupported = %v, %v, want %v", unsupported, err, want.Unsupported)
	}
	compare(t, got, want.Topology)
	if err := resolved(t, topologyfile.DefinitionsSchema()).Validate(generic(t, "json", data)); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
	yaml, err := topologyfile.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Parse(yaml)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, again, got)
}

func TestMarshalNamesWhatYAMLCannotHold(t *testing.T) {
	for _, test := range []struct {
		topology topology.Topology
		want     string
	}{
		{topology.Topology{Queues: []topology.Queue{{Name: "q"}, {Name: "q", MaxLength: 1}}}, `topology: Queues[1] "q".Name: is also the name of Queues[0], which differs; declare it once, or make both equal`},
		{topology.Topology{Exchanges: []topology.Exchange{{Name: "x", Arguments: amqp.Table{"b": []byte("b")}}}}, `topology: Exchanges[0] "x".Arguments["b"]: a []uint8 has no form in a file; use a string, a bool, an int64 or a float64`},
		{topology.Topology{Bindings: []topology.Binding{{Source: "\xff"}}}, `topology: Bindings[0].Source: "\xff" is not valid UTF-8; use another name`},
	} {
		_, err := topologyfile.Marshal(test.topology)
		field, ok := errors.AsType[*amqperr.FieldError](err)
		if !ok || field.Error() != test.want || err.Error() != test.want {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
	}
	once, err := topologyfile.Marshal(topology.Topology{Queues: []topology.Queue{{Name: "q"}, {Name: "q", Type: topology.Quorum}}})
	if err != nil || string(once) != "queues:\n  q: {}\n" {
		t.Errorf("equal queues are written as %q, %v", once, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"testdata/orders.yaml", "../testdata/rabbitmq-4.3.json"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	data, err := topologyfile.Marshal(everything)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("queues: {a: &a {max_length: 5}, b: {<<: *a, arguments: {x-max-age: 5}}, \"${NAME}\": *a}"))
	f.Add([]byte("a: &a [*a]\n--- \n? {b: c}\n: !!binary d"))
	l := loader()
	l.Unsupported = func(string, topology.Unsupported) {}
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := l.Parse(data)
		if err != nil {
			return
		}
		written, err := topologyfile.Marshal(parsed)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", parsed, err)
		}
		again, err := l.Parse(written)
		if err != nil || len(parsed.Queues)+len(parsed.Exchanges)+len(parsed.Bindings) > 0 && !reflect.DeepEqual(again, parsed) {
			t.Fatalf("written as\n%s\nread again: %v\n%+v\nwant\n%+v", written, err, again, parsed)
		}
	})
}
