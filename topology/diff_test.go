package topology

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// existing returns the virtual host after t was declared, as the management API shows it.
func existing(t *testing.T, topo Topology) Existing {
	t.Helper()
	e := Existing{Version: "4.3.6"}
	for _, x := range topo.Exchanges {
		r := x.request()
		e.Exchanges = append(e.Exchanges, Exchange{
			Name: r.name, Type: x.Type, Transient: !r.durable, AutoDelete: r.autoDelete, Internal: r.internal, Arguments: asJSON(t, r.args),
		})
	}
	for _, q := range topo.Queues {
		r := q.request()
		kind := QueueType(r.args["x-queue-type"].(string))
		e.Queues = append(e.Queues, Queue{
			Name: r.name, Type: kind, Transient: !r.durable, AutoDelete: r.autoDelete, Exclusive: r.exclusive, Arguments: asJSON(t, r.args),
		})
	}
	for _, b := range topo.Bindings {
		b.Arguments = asJSON(t, b.Arguments)
		e.Bindings = append(e.Bindings, b)
	}
	return e
}

// asJSON returns arguments with the types that remain after JSON.
func asJSON(t *testing.T, args amqp.Table) (all amqp.Table) {
	t.Helper()
	text, err := json.Marshal(normal(args))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		t.Fatal(err)
	}
	return numbers(map[string]any(all)).(map[string]any)
}

// numbers converts the numbers of JSON.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for key := range v {
			v[key] = numbers(v[key])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	}
	return v
}

func undrifted(t *testing.T, topo Topology) Existing {
	t.Helper()
	e := existing(t, topo)
	if p := Diff(topo, e); p.Drift() || p.Count(Keep) != len(p.Changes) {
		t.Fatalf("before the change:\n%s", p)
	}
	return e
}

func TestDiffShowsEveryDifferenceWithBothValues(t *testing.T) {
	for name, c := range map[string]struct {
		has, want any // of Exchange or Queue, without a name
		version   string
		lines     []string // after the first
	}{
		"durable":          {Exchange{Type: Direct}, Exchange{Type: Direct, Transient: true}, "", []string{"durable: true -> false"}},
		"exchange type":    {Exchange{Type: Direct}, Exchange{Type: Topic}, "", []string{`type: "direct" -> "topic"`}},
		"internal":         {Exchange{Type: Direct, Internal: true}, Exchange{Type: Direct}, "", []string{"internal: true -> false"}},
		"auto-delete":      {Exchange{Type: Direct}, Exchange{Type: Direct, AutoDelete: true}, "", []string{"auto_delete: false -> true"}},
		"alternate":        {Exchange{Type: Direct, AlternateExchange: "a"}, Exchange{Type: Direct}, "", []string{`alternate-exchange: "a" -> none`}},
		"all of exchange":  {Exchange{Type: Direct, Transient: true}, Exchange{Type: Fanout, AlternateExchange: "a", AutoDelete: true}, "", []string{`alternate-exchange: none -> "a"`, "auto_delete: false -> true", "durable: false -> true", `type: "direct" -> "fanout"`}},
		"hash header":      {Exchange{Type: "x-consistent-hash", Arguments: amqp.Table{"hash-header": "a"}}, Exchange{Type: "x-consistent-hash", Arguments: amqp.Table{"hash-header": "b"}}, "", []string{`note: hash-header is "a" on the broker and "b" in the declaration; RabbitMQ does not compare it and does not change it`}},
		"queue type":       {Queue{Type: Classic}, Queue{}, "", []string{`x-queue-type: "classic" -> "quorum"`}},
		"type and other":   {Queue{Type: Classic, MaxPriority: 5}, Queue{DeliveryLimit: new(3)}, "", []string{"x-delivery-limit: none -> 3", "x-max-priority: 5 -> none", `x-queue-type: "classic" -> "quorum"`}},
		"queue durable":    {Queue{Type: Classic, Transient: true}, Queue{}, "", []string{"durable: false -> true", `x-queue-type: "classic" -> "quorum"`}},
		"exclusive":        {Queue{Type: Classic, Exclusive: true}, Queue{Type: Classic}, "", []string{"exclusive: true -> false"}},
		"not exclusive":    {Queue{Type: Classic}, Queue{Type: Classic, Exclusive: true}, "", []string{"exclusive: false -> true"}},
		"ttl":              {Queue{MessageTTL: time.Minute}, Queue{MessageTTL: time.Hour}, "", []string{"x-message-ttl: 60000 -> 3600000"}},
		"missing":          {Queue{}, Queue{MaxLength: 5}, "", []string{"x-max-length: none -> 5"}},
		"extra":            {Queue{MaxLength: 5}, Queue{}, "", []string{"x-max-length: 5 -> none"}},
		"unlimited":        {Queue{}, Queue{DeliveryLimit: new(Unlimited)}, "", []string{"x-delivery-limit: none -> -1"}},
		"number or text":   {Queue{Arguments: amqp.Table{"x-delivery-limit": "3"}}, Queue{DeliveryLimit: new(3)}, "", []string{`x-delivery-limit: "3" -> 3`}},
		"retry":            {Queue{}, Queue{DelayedRetry: &DelayedRetry{Min: time.Second}}, "", []string{"x-delayed-retry-max: none -> 1000", "x-delayed-retry-min: none -> 1000", `x-delayed-retry-type: none -> "failed"`}},
		"retry on 4.0":     {Queue{}, Queue{DelayedRetry: &DelayedRetry{Min: time.Second, Type: "all"}}, "4.0.5", []string{"note: x-delayed-retry-max is none on the broker and 1000 in the declaration;", "note: x-delayed-retry-min is none", `note: x-delayed-retry-type is none on the broker and "all"`}},
		"timeout":          {Queue{}, Queue{Arguments: amqp.Table{"x-consumer-timeout": 5}}, "4.3.0", []string{"x-consumer-timeout: none -> 5"}},
		"timeout on 4.2":   {Queue{}, Queue{Arguments: amqp.Table{"x-consumer-timeout": 5}}, "4.2.9", []string{"note: x-consumer-timeout is none on the broker and 5"}},
		"classic timeout":  {Queue{Type: Classic}, Queue{Type: Classic, Arguments: amqp.Table{"x-consumer-timeout": 5}}, "", []string{"note: x-consumer-timeout is none"}},
		"unknown argument": {Queue{}, Queue{Arguments: amqp.Table{"x-team": "billing"}, AllowUnknownArguments: true}, "", []string{`note: x-team is none on the broker and "billing" in the declaration; RabbitMQ does not compare it and does not change it`}},
		"old unknown":      {Queue{Arguments: amqp.Table{"x-team": 5}}, Queue{}, "", []string{"note: x-team is 5 on the broker and none in the declaration;"}},
		"note and more":    {Queue{Arguments: amqp.Table{"x-team": 5}}, Queue{MaxLength: 5}, "", []string{"x-max-length: none -> 5", "note: x-team is 5"}},
		"group size":       {Queue{}, Queue{Arguments: amqp.Table{"x-quorum-target-group-size": 3}}, "", []string{"note: x-quorum-target-group-size is none"}},
		"initial size":     {Queue{}, Queue{Arguments: amqp.Table{"x-quorum-initial-group-size": 3}}, "", []string{"x-quorum-initial-group-size: none -> 3"}},
		"max age":          {Queue{Type: Stream, MaxAge: time.Hour}, Queue{Type: Stream, MaxAge: 2 * time.Hour}, "", []string{`x-max-age: "3600s" -> "7200s"`}},
		"max age text":     {Queue{Type: Stream, Arguments: amqp.Table{"x-max-age": "24h"}}, Queue{Type: Stream, Arguments: amqp.Table{"x-max-age": "1D"}}, "4.3.5", []string{`x-max-age: "24h" -> "1D"`}},
		"max age invalid":  {Queue{Type: Stream, Arguments: amqp.Table{"x-max-age": "h"}}, Queue{Type: Stream, Arguments: amqp.Table{"x-max-age": "m"}}, "4.3.6", []string{`x-max-age: "h" -> "m"`}},
		"filter size":      {Queue{Type: Stream}, Queue{Type: Stream, Arguments: amqp.Table{"x-stream-filter-size-bytes": 16}}, "", []string{"x-stream-filter-size-bytes: none -> 16"}},
		"filter on 4.2.6":  {Queue{Type: Stream}, Queue{Type: Stream, Arguments: amqp.Table{"x-stream-filter-size-bytes": 16}}, "4.2.6", []string{"note: x-stream-filter-size-bytes is none"}},
		"master locator":   {Queue{Type: Classic, Arguments: amqp.Table{"x-queue-master-locator": "min-masters"}}, Queue{Type: Classic}, "4.0.5", []string{`x-queue-master-locator: "min-masters" -> none`}},
	} {
		t.Run(name, func(t *testing.T) {
			has, want := named(c.has), named(c.want)
			e := undrifted(t, has)
			e.Version = c.version
			p := Diff(want, e)
			if len(p.Changes) != 1 {
				t.Fatalf("changes = %v, want one", p.Changes)
			}
			change := p.Changes[0]
			recreated := slices.ContainsFunc(c.lines, func(l string) bool { return !strings.HasPrefix(l, "note: ") })
			if wanted := map[bool]Action{true: Recreate, false: Keep}[recreated]; change.Action != wanted || p.Drift() != recreated {
				t.Errorf("action %s, drift %v, want %s", change.Action, p.Drift(), wanted)
			}
			lines := strings.Split(change.String(), "\n")[1:]
			if len(lines) != len(c.lines) {
				t.Fatalf("lines = %q, want %q", lines, c.lines)
			}
			for i, want := range c.lines {
				if !strings.HasPrefix(strings.TrimSpace(lines[i]), want) {
					t.Errorf("line = %q, want %q", lines[i], want)
				}
			}
		})
	}
}

// named returns a topology with one object.
func named(object any) Topology {
	switch o := object.(type) {
	case Exchange:
		o.Name = "o"
		return Topology{Exchanges: []Exchange{o}}
	case Queue:
		o.Name = "o"
		return Topology{Queues: []Queue{o}}
	}
	panic(object)
}

func TestDiffFindsNoDifferenceWhereRabbitMQFindsNone(t *testing.T) {
	queue := func(kind QueueType, args amqp.Table) Queue { return Queue{Type: kind, Arguments: args} }
	for name, c := range map[string]struct {
		has, want Queue
		version   string
	}{
		"sizes of integers":  {queue("", amqp.Table{"x-max-length": int64(5)}), queue("", amqp.Table{"x-max-length": int16(5)}), ""},
		"field and argument": {queue("", amqp.Table{"x-message-ttl": int64(1000)}), Queue{MessageTTL: time.Second}, ""},
		"type without argument": {
			Queue{Type: Classic, Arguments: amqp.Table{}}, Queue{Type: Classic, Arguments: amqp.Table{}}, "3.13.7",
		},
		"24h and 1D":       {queue(Stream, amqp.Table{"x-max-age": "24h"}), queue(Stream, amqp.Table{"x-max-age": "1D"}), "4.3.6"},
		"a pre-release":    {queue(Stream, amqp.Table{"x-max-age": "24h"}), queue(Stream, amqp.Table{"x-max-age": "1D"}), "4.3.7-rc.1"},
		"seconds and 1Y":   {queue(Stream, amqp.Table{"x-max-age": "1Y"}), Queue{Type: Stream, MaxAge: 365 * 24 * time.Hour}, "4.4.0"},
		"months, unknown":  {queue(Stream, amqp.Table{"x-max-age": "2M"}), queue(Stream, amqp.Table{"x-max-age": "60D"}), ""},
		"bytes and string": {queue("", amqp.Table{"x-team": "a"}), queue("", amqp.Table{"x-team": []byte("a")}), ""},
		"a table":          {queue("", amqp.Table{"x-team": map[string]any{"n": []any{int64(1), 1.5}}}), queue("", amqp.Table{"x-team": amqp.Table{"n": []any{int8(1), float32(1.5)}}}), ""},
		"a time":           {queue("", amqp.Table{"x-team": int64(1_000)}), queue("", amqp.Table{"x-team": time.Unix(1_000, 5)}), ""},
	} {
		e := Existing{Topology: named(c.has), Version: c.version}
		if p := Diff(named(c.want), e); p.Count(Keep) != 1 || len(p.Changes[0].Notes) > 0 || p.Drift() {
			t.Errorf("%s:\n%s", name, p)
		}
	}
}

func TestDiffFindsMissingUnmanagedAndSurplusObjects(t *testing.T) {
	headers := amqp.Table{"x-match": "all", "n": 1}
	e := existing(t, Topology{
		Exchanges: []Exchange{{Name: "", Type: Direct}, {Name: "amq.topic", Type: Topic}, {Name: "in", Type: Headers}, {Name: "out", Type: Fanout}, {Name: "theirs", Type: Fanout}},
		Queues:    []Queue{{Name: "q"}, {Name: "z", Type: Classic, AutoDelete: true}, {Name: "amq.gen-1", Type: Classic}, {Name: "a"}, {Name: "reply", Type: Classic, Exclusive: true}},
		Bindings: []Binding{
			{Source: "", Queue: "q", Key: "q"}, // implicit
			{Source: "in", Queue: "q", Arguments: headers},
			{Source: "in", Queue: "q", Arguments: amqp.Table{"x-match": "all", "n": 2}}, // surplus
			{Source: "amq.topic", Queue: "q", Key: "#"},                                 // surplus
			{Source: "theirs", Queue: "q"},                                              // surplus
			{Source: "in", Exchange: "out"},                                             // surplus
			{Source: "in", Exchange: "theirs"},
			{Source: "theirs", Exchange: "in"},
			{Source: "in", Queue: "z"},
		},
	})
	e.Usage = map[string]Usage{"a": {Messages: 1, Consumers: 2, State: "running"}, "q": {Messages: 7, State: "minority"}}
	p := Diff(Topology{
		Exchanges: []Exchange{{Name: "in", Type: Headers}, {Name: "out", Type: Fanout}, {Name: "new", Type: Topic, Internal: true}},
		Queues:    []Queue{{Name: "q", MaxLength: 5}, {Name: "new", Type: Stream}},
		Bindings: []Binding{
			{Source: "in", Queue: "q", Arguments: amqp.Table{"n": int16(1), "x-match": "all"}},
			{Source: "new", Queue: "new", Key: "k"},
			{Source: "amq.headers", Queue: "q", Arguments: amqp.Table{"x-match": "any"}},
		},
	}, e)
	want := `+ exchange "new" (topic, internal)
~ queue "q" (quorum, 7 messages, 0 consumers, minority): recreate
    x-max-length: none -> 5
+ queue "new" (stream)
+ binding of queue "new" to exchange "new" with key "k"
+ binding of queue "q" to exchange "amq.headers" with key "" (x-match="any")
- binding of queue "q" to exchange "amq.topic" with key "#": surplus
- binding of exchange "out" to exchange "in" with key "": surplus
- binding of queue "q" to exchange "in" with key "" (n=2, x-match="all"): surplus
- binding of queue "q" to exchange "theirs" with key "": surplus
. exchange "theirs" (fanout): unmanaged
. queue "a" (quorum, 1 message, 2 consumers): unmanaged
. queue "z" (classic, auto-delete): unmanaged
4 to create, 1 to recreate, 4 surplus, 3 unchanged, 3 unmanaged`
	if got := p.String(); got != want {
		t.Errorf("plan:\n%s\nwant:\n%s", got, want)
	}
	if !p.Drift() {
		t.Error("no drift")
	}
	if p := Diff(Queues("q"), existing(t, Topology{Queues: []Queue{{Name: "q"}}, Bindings: []Binding{{Source: "amq.topic", Queue: "q"}}})); !p.Drift() {
		t.Errorf("a surplus binding is no drift:\n%s", p)
	}
	if got := (Plan{}).String(); got != "nothing to do" || (Plan{}).Drift() {
		t.Errorf("the plan of nothing: %q", got)
	}
	for _, c := range p.Changes {
		if n := len(slices.DeleteFunc([]any{c.Exchange, c.Queue, c.Binding}, func(v any) bool { return reflect.ValueOf(v).IsNil() })); n != 1 {
			t.Errorf("%s has %d objects, want one", c.Object, n)
		}
	}
}

func TestDiffReportsWhatPoliciesChange(t *testing.T) {
	policy := func(name string, priority int, definition amqp.Table) Policy {
		return Policy{Name: name, Pattern: "^o", ApplyTo: "queues", Priority: priority, Definition: definition}
	}
	operator := func(name string, definition amqp.Table) Policy {
		p := policy(name, 0, definition)
		p.Operator = true
		return p
	}
	limit := func(n int) Queue { return Queue{DeliveryLimit: &n} }
	for name, c := range map[string]struct {
		queue    Queue
		policies []Policy
		notes    []string
	}{
		"lower limit":         {limit(5), []Policy{policy("p", 0, amqp.Table{"delivery-limit": int64(2)})}, []string{`x-delivery-limit is 5 in the declaration and 2 in effect, because of policy "p"`}},
		"higher limit":        {limit(2), []Policy{policy("p", 0, amqp.Table{"delivery-limit": int64(5)})}, nil},
		"limit on unlimited":  {limit(Unlimited), []Policy{operator("op", amqp.Table{"delivery-limit": int64(3)})}, []string{`x-delivery-limit is -1 in the declaration and 3 in effect, because of operator policy "op"`}},
		"unlimited on limit":  {limit(3), []Policy{policy("p", 0, amqp.Table{"delivery-limit": int64(-1)})}, nil},
		"the lower of both":   {Queue{MaxLength: 9}, []Policy{policy("p", 0, amqp.Table{"max-length": int64(5)}), operator("op", amqp.Table{"max-length": int64(3)})}, []string{`x-max-length is 9 in the declaration and 3 in effect, because of operator policy "op"`}},
		"the user's is lower": {Queue{MaxLength: 9}, []Policy{operator("op", amqp.Table{"max-length": int64(5)}), policy("p", 0, amqp.Table{"max-length": int64(3)})}, []string{`x-max-length is 9 in the declaration and 3 in effect, because of policy "p"`}},
		"highest priority":    {Queue{MaxLength: 9}, []Policy{policy("low", 1, amqp.Table{"max-length": int64(1)}), policy("high", 2, amqp.Table{"max-length": int64(2)})}, []string{`x-max-length is 9 in the declaration and 2 in effect, because of policy "high"`}},
		"without argument":    {Queue{}, []Policy{policy("p", 0, amqp.Table{"max-length": int64(1)})}, nil},
		"quorum overflow":     {Queue{Overflow: RejectPublish}, []Policy{policy("p", 0, amqp.Table{"overflow": "drop-head"})}, []string{`x-overflow is "reject-publish" in the declaration and "drop-head" in effect, because of policy "p"`}},
		"classic overflow":    {Queue{Type: Classic, Overflow: RejectPublish}, []Policy{policy("p", 0, amqp.Table{"overflow": "drop-head"})}, nil},
		"dead letters":        {Queue{DeadLetter: &DeadLetter{Exchange: "a"}}, []Policy{policy("p", 0, amqp.Table{"dead-letter-exchange": "b"})}, nil},
		"stream":              {Queue{Type: Stream, MaxLengthBytes: 5}, []Policy{policy("p", 0, amqp.Table{"max-length-bytes": int64(9)})}, []string{`x-max-length-bytes is 5 in the declaration and 9 in effect, because of policy "p"`}},
		"stream age":          {Queue{Type: Stream, MaxAge: time.Hour}, []Policy{policy("p", 0, amqp.Table{"max-age": "2h"})}, []string{`x-max-age is "3600s" in the declaration and "2h" in effect, because of policy "p"`}},
		"equal stream age":    {Queue{Type: Stream, MaxAge: time.Hour}, []Policy{policy("p", 0, amqp.Table{"max-age": "1h"})}, nil},
		"retry type":          {Queue{DelayedRetry: &DelayedRetry{Min: time.Second}}, []Policy{policy("p", 0, amqp.Table{"delayed-retry-type": "disabled"})}, []string{`x-delayed-retry-type is "failed" in the declaration and "disabled" in effect, because of policy "p"`}},
		"other pattern":       {Queue{MaxLength: 9}, []Policy{{Name: "p", Pattern: "^x", Definition: amqp.Table{"max-length": int64(1)}}}, nil},
		"other objects":       {Queue{MaxLength: 9}, []Policy{{Name: "p", ApplyTo: "exchanges", Definition: amqp.Table{"max-length": int64(1)}}}, nil},
		"other type":          {Queue{MaxLength: 9}, []Policy{{Name: "p", ApplyTo: "classic_queues", Definition: amqp.Table{"max-length": int64(1)}}}, nil},
		"same type":           {Queue{MaxLength: 9}, []Policy{{Name: "p", ApplyTo: "quorum_queues", Definition: amqp.Table{"max-length": int64(1)}}}, []string{`x-max-length is 9 in the declaration and 1 in effect, because of policy "p"`}},
		"stream type":         {Queue{Type: Stream, MaxLengthBytes: 9}, []Policy{{Name: "p", ApplyTo: "streams", Definition: amqp.Table{"max-length-bytes": int64(1)}}}, []string{`x-max-length-bytes is 9 in the declaration and 1 in effect, because of policy "p"`}},
		"a foreign key":       {Queue{Type: Classic, MaxLength: 9}, []Policy{policy("p", 0, amqp.Table{"max-length": int64(1), "delivery-limit": int64(3)})}, nil},
		"next after foreign":  {Queue{Type: Classic, MaxLength: 9}, []Policy{policy("p", 9, amqp.Table{"delivery-limit": int64(3)}), policy("next", 0, amqp.Table{"max-length": int64(2)})}, []string{`x-max-length is 9 in the declaration and 2 in effect, because of policy "next"`}},
	} {
		topo := named(c.queue)
		e := existing(t, topo)
		for existed, e := range map[bool]Existing{true: e, false: {}} {
			e.Policies = c.policies
			p := Diff(topo, e)
			if got := p.Changes[0].Notes; !slices.Equal(got, c.notes) || p.Drift() == existed {
				t.Errorf("%s, existed %v: notes = %q, want %q; drift %v", name, existed, got, c.notes, p.Drift())
			}
		}
	}
}

func TestDiffNamesAPolicyThatItCannotRead(t *testing.T) {
	e := Existing{Policies: []Policy{{Name: "p", Pattern: "^(?!amq)"}, {Name: "op", Pattern: "a(?=b)", Operator: true}}}
	got := Diff(Queues("q"), e).Unseen
	if len(got) != 2 || got[0].What != `policy "p"` || got[1].What != `operator policy "op"` || got[0].Why == "" {
		t.Errorf("Unseen = %v", got)
	}
}

func TestDiffStatesWhatWasNotSeen(t *testing.T) {
	long := strings.Repeat("q", 200)
	e := Existing{
		Topology: Topology{Exchanges: []Exchange{{Name: "in"}}, Queues: []Queue{{Name: "q"}}},
		Unseen: []Unseen{
			{"attributes", "passive"}, {"bindings", "passive"}, {`queue "secret"`, "403"}, {`queue "` + long + `1"`, "403"},
		},
	}
	p := Diff(Topology{
		Exchanges: []Exchange{{Name: "in", Type: Topic}},
		Queues:    []Queue{{Name: "q", Type: Stream}, {Name: "secret"}, {Name: "new"}, {Name: long + "1"}, {Name: long + "2"}},
		Bindings:  []Binding{{Source: "in", Queue: "q"}, {Source: "in", Queue: "new"}, {Source: "in", Queue: "secret"}},
	}, e)
	var actions []Action
	for _, c := range p.Changes {
		actions = append(actions, c.Action)
	}
	if want := []Action{Keep, Keep, Unknown, Create, Unknown, Create, Unknown, Create, Unknown}; !slices.Equal(actions, want) {
		t.Errorf("actions = %v, want %v", actions, want)
	}
	want := `? queue "secret" (quorum): unknown
+ queue "new" (quorum)
`
	if got := p.String(); !strings.HasPrefix(got, want) || !strings.Contains(got, "\nnot seen: attributes: passive\nnot seen: bindings: passive\n") || strings.Contains(got, "? binding") {
		t.Errorf("plan:\n%s\nwant %s", got, want)
	}
	if !reflect.DeepEqual(p.Unseen, e.Unseen) {
		t.Errorf("Unseen = %v", p.Unseen)
	}
	if p.Drift() != true || Diff(Queues("q", "secret"), e).Drift() {
		t.Error("an unknown object is drift")
	}
}

func TestDiffKeepsAnExclusiveQueueWithANote(t *testing.T) {
	topo := named(Queue{Type: Classic, Exclusive: true})
	p := Diff(topo, existing(t, topo))
	if c := p.Changes[0]; c.Action != Keep || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "the connection that declared it") {
		t.Errorf("change = %+v", c)
	}
}

// anything returns a valid topology.
func anything(r *rand.Rand) (topo Topology) {
	maybe := func(n int) bool { return r.IntN(n) == 0 }
	name := func() string {
		return strings.Repeat("n", 1+r.IntN(80)) + fmt.Sprint(r.IntN(1000)) + []string{"", "é", "\"", "'\x00"}[r.IntN(4)]
	}
	for range r.IntN(4) {
		x := Exchange{Name: name(), Type: []ExchangeType{Direct, Topic, Fanout, Headers, "x-modulus-hash"}[r.IntN(5)], Transient: maybe(2), AutoDelete: maybe(2), Internal: maybe(2)}
		if maybe(2) {
			x.AlternateExchange = name()
		}
		topo.Exchanges = append(topo.Exchanges, x)
	}
	for range r.IntN(4) {
		q := Queue{Name: name(), Type: []QueueType{"", Quorum, Classic, Stream}[r.IntN(4)], Arguments: amqp.Table{"x-free": anyValue(r, 2)}, AllowUnknownArguments: true}
		if q.Type == Classic {
			q.Transient, q.AutoDelete, q.Exclusive, q.MaxPriority = maybe(2), maybe(2), maybe(4), uint8(r.IntN(3))
		}
		if q.Type != Stream {
			q.MessageTTL, q.MaxLength = time.Duration(r.IntN(3))*time.Second, int64(r.IntN(3))
		}
		if q.Type == Stream {
			q.MaxAge = time.Duration(r.IntN(3)) * time.Hour
		}
		topo.Queues = append(topo.Queues, q)
	}
	for _, x := range topo.Exchanges {
		for _, q := range topo.Queues {
			topo.Bindings = append(topo.Bindings, Binding{Source: x.Name, Queue: q.Name, Key: name(), Arguments: amqp.Table{name(): anyValue(r, 3), "n": anyValue(r, 1)}, AllowUnknownArguments: true})
		}
		topo.Bindings = append(topo.Bindings, Binding{Source: x.Name, Exchange: topo.Exchanges[0].Name})
	}
	return topo
}

// anyValue returns a value of an argument.
func anyValue(r *rand.Rand, depth int) any {
	if depth > 0 && r.IntN(2) == 0 {
		return amqp.Table{"t": anyValue(r, depth-1), "u": []any{anyValue(r, depth-1)}}
	}
	return []any{
		nil, true, false, 7, int8(-7), int16(7), int32(-7), int64(1) << 60, uint8(7), uint16(7), uint32(1) << 31, float32(0.1), 1e300, 0.5,
		"text", "\xff\xfe binary" + strings.Repeat("x", 90), []byte("bytes"), time.Unix(1e9, 0),
		amqp.Decimal{Scale: 2, Value: 345},
	}[r.IntN(19)]
}

func TestADeclaredTopologyHasNoDrift(t *testing.T) {
	for seed := range uint64(300) {
		topo := Merge(anything(rand.New(rand.NewPCG(seed, 0))))
		p := Diff(topo, existing(t, topo))
		if p.Drift() || p.Count(Keep) != len(p.Changes) || len(p.Changes) != len(topo.Exchanges)+len(topo.Queues)+len(topo.Bindings) {
			t.Fatalf("seed %d: %+v\n%s", seed, topo, p)
		}
		for _, c := range p.Changes {
			if len(c.Notes) > 0 && !c.Queue.Exclusive {
				t.Fatalf("seed %d:\n%s", seed, c)
			}
		}
		empty := Diff(topo, Existing{})
		if empty.Count(Create) != len(empty.Changes) || len(empty.Changes) != len(p.Changes) {
			t.Fatalf("seed %d, nothing exists:\n%s", seed, empty)
		}
	}
}

func TestDiffIsDeterministicAndChangesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		wanted, has := anything(r), existing(t, anything(r))
		first := Diff(wanted, has).String()
		r.Shuffle(len(has.Queues), func(i, j int) { has.Queues[i], has.Queues[j] = has.Queues[j], has.Queues[i] })
		slices.Reverse(has.Bindings)
		if got := Diff(wanted, has).String(); got != first {
			t.Fatalf("plan:\n%s\nbefore:\n%s", got, first)
		}
	}
	wanted, has := many1000(), existing(t, many1000())
	w, h := fmt.Sprintf("%#v", wanted), fmt.Sprintf("%#v", has)
	_ = Diff(wanted, has)
	if fmt.Sprintf("%#v", wanted) != w || fmt.Sprintf("%#v", has) != h {
		t.Error("Diff changed its arguments")
	}
}

// many1000 returns 1,000 queues with 1,000 bindings.
func many1000() (topo Topology) {
	topo.Exchanges = []Exchange{{Name: "in", Type: Topic}}
	for i := range 1000 {
		name := fmt.Sprint("queue-", i)
		topo.Queues = append(topo.Queues, Queue{Name: name, MessageTTL: time.Minute, DeadLetter: &DeadLetter{Exchange: "in"}})
		topo.Bindings = append(topo.Bindings, Binding{Source: "in", Queue: name, Key: name})
	}
	return topo
}

func TestDiffOfAThousandQueuesIsFast(t *testing.T) {
	topo := many1000()
	e := existing(t, topo)
	for i := range 50 {
		e.Policies = append(e.Policies, Policy{Name: fmt.Sprint(i), Pattern: fmt.Sprintf("^x%d", i), ApplyTo: "all", Definition: amqp.Table{"max-length": int64(i)}})
	}
	start := time.Now()
	p := Diff(topo, e)
	if took := time.Since(start); took > time.Second || p.Drift() {
		t.Errorf("it took %v, drift %v", took, p.Drift())
	}
}

func BenchmarkDiff(b *testing.B) {
	topo := many1000()
	has := Existing{Topology: topo}
	b.ReportAllocs()
	for b.Loop() {
		if Diff(topo, has).Drift() {
			b.Fatal("drift")
		}
	}
}

func TestMergeKeepsBindingsWithLongNames(t *testing.T) {
	long := strings.Repeat("q", 100)
	topo := Topology{Bindings: []Binding{{Source: "x", Queue: long + "1"}, {Source: "x", Queue: long + "2"}}}
	if got := Merge(topo); len(got.Bindings) != 2 {
		t.Errorf("Merge = %+v, want both bindings", got)
	}
}
