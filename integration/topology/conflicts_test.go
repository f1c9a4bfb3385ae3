package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

func TestS39ConflictNamesTheAttributeAndTheOthersAreDeclared(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	ttl := func(d time.Duration) topology.Queue { return topology.Queue{Name: name("ttl"), MessageTTL: d} }
	kit.Declared(t, ac, topology.Topology{
		Exchanges: []topology.Exchange{{Name: name("exchange"), Type: topology.Direct}, {Name: name("fleeting"), Type: topology.Direct, Transient: true}},
		Queues: []topology.Queue{
			ttl(time.Minute),
			{Name: name("script"), Type: topology.Classic, Transient: true, Exclusive: true},
			{Name: name("transient"), Type: topology.Classic, Transient: true},
			{Name: name("type"), Type: topology.Classic},
			{Name: name("argument-missing"), MaxLength: 5},
			{Name: name("argument-extra")},
		},
	})
	other := topology.Topology{
		Exchanges: []topology.Exchange{
			{Name: name("exchange"), Type: topology.Topic},
			{Name: name("fleeting"), Type: topology.Direct},
			{Name: name("new"), Type: topology.Fanout},
		},
		Queues: []topology.Queue{
			ttl(5 * time.Second),
			{Name: name("transient")},
			{Name: name("type")},
			{Name: name("argument-missing")},
			{Name: name("argument-extra"), Expires: time.Hour},
			{Name: name("script"), Type: topology.Classic},
			{Name: name("new")},
		},
		Bindings: []topology.Binding{
			{Source: name("exchange"), Queue: name("new")}, // not tried: its exchange failed
			{Source: name("new"), Queue: name("ttl")},      // not tried: its queue failed
			{Source: name("new"), Queue: name("new")},
			{Source: name("nowhere"), Queue: name("new")},
		},
	}
	kit.DeleteAfter(t, topology.Topology{Exchanges: other.Exchanges[2:], Queues: other.Queues[6:]})

	// From another connection, so that the exclusive queue conflicts too.
	err := other.Declare(t.Context(), kit.DialRaw(t))
	want := []string{
		"exchange exchange: type has direct, want topic",
		"exchange fleeting: durable has false, want true",
		"queue ttl: x-message-ttl has 60000, want 5000",
		"queue transient: durable has false, want true",
		"queue type: x-queue-type has classic, want quorum",
		"queue argument-missing: x-max-length has 5, want none",
		"queue argument-extra: x-expires has none, want 3600000",
		"queue script: exclusive has true, want false",
	}
	var got []string
	var refused []*topology.DeclareError
	for _, err := range joined(err) {
		var conflict *topology.ConflictError
		var other *topology.DeclareError
		switch {
		case errors.As(err, &conflict):
			object := strings.NewReplacer(`"`, "", name(""), "").Replace(conflict.Object)
			got = append(got, fmt.Sprintf("%s: %s has %s, want %s", object, conflict.Attribute, conflict.Has, conflict.Want))
		case errors.As(err, &other):
			refused = append(refused, other)
		default:
			t.Error(err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("conflicts:\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
	if len(refused) != 1 || !strings.Contains(refused[0].Object, "nowhere") {
		t.Errorf("refused = %v, want the binding to an exchange that does not exist, and nothing else", refused)
	}

	// What was all right is there, and its binding works.
	if err := kit.RawChannel(t).PublishWithContext(t.Context(), name("new"), "", false, false, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	kit.Take(t, name("new"), 1)
}

// RabbitMQ closes the channel over the first two, and takes the misspelt one in silence.
func TestS39WrongArgumentsAreRefusedBeforeTheWire(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	for field, args := range map[string]amqp.Table{
		`Arguments["x-message-ttl"]`: {"x-message-ttl": "5000"},
		`Arguments["x-mesage-ttl"]`:  {"x-mesage-ttl": 5000},
	} {
		topo := topology.Topology{Queues: []topology.Queue{{Name: name("good")}, {Name: name("bad"), Arguments: args}}}
		var wrong *amqperr.FieldError
		err := topo.Declare(t.Context(), ac)
		if !errors.As(err, &wrong) || !wrong.Permanent() || !strings.HasSuffix(wrong.Field, field) || !strings.Contains(wrong.Field, name("bad")) || wrong.Fix == "" {
			t.Errorf("Declare = %v, want a permanent FieldError that names the queue and %s", err, field)
		}
	}
	topo := topology.Topology{Queues: []topology.Queue{{Name: name("bad"), MessageTTL: -time.Millisecond}}}
	var wrong *amqperr.FieldError
	if err := topo.Declare(t.Context(), ac); !errors.As(err, &wrong) || !strings.HasSuffix(wrong.Field, ".MessageTTL") {
		t.Errorf("Declare = %v, want a FieldError that names MessageTTL", err)
	}
	if n := len(joined(topology.Topology{Queues: []topology.Queue{{Name: name("good")}, {Name: name("bad")}}}.Verify(t.Context(), ac))); n != 2 {
		t.Errorf("%d queues are missing, want 2: nothing of an invalid topology is declared", n)
	}
}

// A message that waits for a minute does not hold up one that waits for a moment: each delay has a queue of its own.
func TestS40DelayTiersDoNotHoldEachOtherUp(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	tier := func(d time.Duration) topology.Queue {
		return topology.Queue{Name: name(d.String()), MessageTTL: d, DeadLetter: &topology.DeadLetter{RoutingKey: name("work")}}
	}
	long, short := tier(time.Minute), tier(100*time.Millisecond)
	kit.Declared(t, ac, topology.Topology{Queues: []topology.Queue{{Name: name("work")}, long, short}})
	b := kit.NewConsumerBench(t)
	p := kit.NewProducer(t, b.Conn, producer.Config{})
	ctx := kit.Within(t, 20*time.Second)
	for _, q := range []topology.Queue{long, short} {
		if err := p.Publish(ctx, "", q.Name, amqp.Publishing{MessageId: q.Name}); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if d := b.Take(name("work")); d.MessageId != short.Name {
		t.Errorf("%s came first, want %s", d.MessageId, short.Name)
	}
	t.Logf("the message that waits for 100 ms, behind one that waits for a minute, came after %v", time.Since(start))
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if n := kit.Purged(t, long.Name); n != 1 {
		t.Errorf("the queue of the long delay holds %d messages, want 1", n)
	}
}

func TestS41RingThatLosesMessagesIsRefusedAndOneWithARejectionGoesRound(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	queue := func(from, to string, ttl time.Duration) topology.Queue {
		return topology.Queue{Name: name(from), MessageTTL: ttl, DeadLetter: &topology.DeadLetter{RoutingKey: name(to)}}
	}
	const ttl = 50 * time.Millisecond
	ring := topology.Topology{Queues: []topology.Queue{queue("a", "b", ttl), queue("b", "a", ttl)}}
	var wrong *amqperr.FieldError
	if err := ring.Declare(t.Context(), ac); !errors.As(err, &wrong) || !strings.Contains(wrong.Problem, name("b")) || wrong.Fix == "" {
		t.Errorf("Declare = %v, want a FieldError that shows the ring", err)
	}
	loop := topology.Topology{Queues: []topology.Queue{queue("a", "b", 0), queue("b", "a", ttl)}}
	if n := len(joined(loop.Verify(t.Context(), ac))); n != 2 {
		t.Errorf("%d queues are missing, want 2: the ring is not declared", n)
	}

	kit.Declared(t, ac, loop)
	b := kit.NewConsumerBench(t)
	b.Publish(name("a"), "m")
	const rounds = 3
	var round atomic.Int64
	seen := make(chan int64, rounds)
	b.Start(consumer.Config{Queue: name("a"), HasDeadLetterExchange: true}, func(context.Context, *consumer.Delivery) error {
		n := round.Add(1)
		seen <- n
		if n < rounds {
			return consumer.Reject(errors.New("once more"))
		}
		return nil
	})
	for range rounds {
		kit.Receive(t, seen, "delivery")
	}
}
