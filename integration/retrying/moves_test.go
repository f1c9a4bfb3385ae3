package retrying

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// A publisher may set them; RabbitMQ shows them with the first delivery.
func TestS42ForgedCountsChangeNothing(t *testing.T) {
	kit.Needs43(t)
	b := kit.NewConsumerBench(t)
	dead := b.Queue(amqp.Table{"x-delivery-limit": -1})
	queue := b.Queue(amqp.Table{"x-delivery-limit": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	p := kit.NewProducer(t, b.Conn, producer.Config{})
	err := p.Publish(b.Ctx(), "", queue, amqp.Publishing{Headers: amqp.Table{
		"x-delivery-count": int64(9), "x-acquired-count": int64(9),
		"x-death": []any{amqp.Table{"queue": queue, "reason": "delivery_limit", "count": int64(5), "exchange": "", "routing-keys": []any{queue}, "time": time.Now()}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	at := make(chan time.Time, 10)
	b.Start(consumer.Config{Queue: queue, HasDeadLetterExchange: true}, func(context.Context, *consumer.Delivery) error {
		at <- time.Now()
		return errors.New("fails")
	})
	first, second := kit.Receive(t, at, "delivery"), kit.Receive(t, at, "delivery")
	if held := second.Sub(first); held < time.Second || held > 10*time.Second {
		t.Errorf("the message was held for %v after its first failure, want 1 s as with any other", held)
	}
	d := b.Take(dead)
	if len(at) != 0 {
		t.Errorf("it was delivered %d times, want 2: the limit of 1", 2+len(at))
	}
	deaths, _ := d.Headers["x-death"].([]any)
	if len(deaths) != 1 || deaths[0].(amqp.Table)["count"] != int64(1) {
		t.Errorf("x-death is %v, want one of count 1", d.Headers["x-death"])
	}
}

// move returns a handler that passes each delivery on to another queue, and is done with it when that is confirmed.
func move(p *producer.Producer, to string) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		return p.Publish(ctx, "", to, amqp.Publishing{MessageId: d.MessageId, Body: d.Body})
	}
}

func TestS43MessageIsAcknowledgedOnlyWhenItsCopyIsConfirmed(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	work, retry := b.Queue(nil), b.Name()
	p := kit.NewProducer(t, b.Conn, producer.Config{})
	log := kit.Observe(proxy)
	b.Publish(work, "m")
	returned := proxy.Next(kit.Kind(amqptest.Returned))
	acked := proxy.Next(kit.Kind(amqptest.Acked))
	b.Start(consumer.Config{Queue: work}, move(p, retry))

	kit.Receive(t, returned, "return: the queue is missing")
	b.Declare(retry, "quorum", nil)
	ack := kit.Receive(t, acked, "ack")
	kit.WaitFor(t, func() bool { return len(log.Of(amqptest.Confirmed)) == 2 }) // of both publishes; told by another link
	if confirm := log.Of(amqptest.Confirmed)[1]; ack.At.Before(confirm.At) || len(log.Of(amqptest.Acked)) != 1 {
		t.Errorf("acks %v, want one, after the second confirm %v", log.Of(amqptest.Acked), confirm)
	}
	if got := kit.Copies(kit.Drained(t, b.Plain, retry)); got["m"] != 1 || len(got) != 1 {
		t.Errorf("the other queue held %v, want m once", got)
	}
	b.ExpectLeft(work, 0)
}

// The crash between the two is unavoidable: the second copy is known by its id.
func TestS43CrashBetweenConfirmAndAckLeavesASecondCopyWithTheSameID(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	work, retry := b.Queue(nil), b.Queue(nil)
	p := kit.NewProducer(t, b.Conn, producer.Config{})
	log := kit.Observe(proxy)
	b.Publish(work, "m")
	acked := proxy.Next(kit.Kind(amqptest.Acked))
	consuming := proxy.ForLinks(func(l amqptest.Link) bool { return l.Consumes })
	consuming.CutAt(amqptest.FromClient, amqptest.BeforeFrame, amqptest.IsConfirm)
	b.Start(consumer.Config{Queue: work}, move(p, retry))
	kit.Receive(t, acked, "ack")
	if got := kit.Copies(kit.Drained(t, b.Plain, retry)); got["m"] != 2 || len(got) != 1 {
		t.Errorf("the other queue held %v, want m twice", got)
	}
	b.ExpectLeft(work, 0)
	if lost := log.Of(amqptest.LinkClosed); len(lost) != 1 {
		t.Errorf("%d links were lost, want the one that was cut", len(lost))
	}
}

// deadLetters returns a queue whose dead letters go to another one, and what they go through.
func deadLetters(name func(string) string) topology.Topology {
	return topology.Topology{
		Exchanges: []topology.Exchange{{Name: name("dlx"), Type: topology.Direct}},
		Queues: []topology.Queue{
			{Name: name("work"), Overflow: topology.RejectPublish, DeadLetter: &topology.DeadLetter{Exchange: name("dlx"), RoutingKey: "k", Strategy: topology.AtLeastOnce}},
			{Name: name("failed")},
		},
		Bindings: []topology.Binding{{Source: name("dlx"), Queue: name("failed"), Key: "k"}},
	}
}

func TestS44WhereDeadLettersGoIsDeclaredFirst(t *testing.T) {
	name := kit.Prefixed(t)
	topo := deadLetters(name)
	kit.DeleteAfter(t, topo)
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	ac, err := amqp.Dial(proxy.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.CloseDeadline(time.Now()) })
	var order []string // of the declarations; CutAt calls its match by one goroutine at a time
	proxy.CutAt(amqptest.FromClient, amqptest.BeforeFrame, func(f amqptest.Frame) bool {
		for what, is := range map[string]func(amqptest.Frame) bool{"exchange": amqptest.IsMethod(40, 10), "queue": amqptest.IsMethod(50, 10), "bind": amqptest.IsMethod(50, 20)} {
			for _, own := range []string{"dlx", "work", "failed"} {
				if is(f) && bytes.HasPrefix(f.Payload[7:], []byte(name(own))) { // after the ids, a reserved short and the name's length
					order = append(order, what+" "+own)
				}
			}
		}
		return false
	})
	if err := topo.Declare(kit.Within(t, 10*time.Second), ac); err != nil {
		t.Fatal(err)
	}
	if err := proxy.Close(); err != nil { // its goroutines are done with order
		t.Fatal(err)
	}
	if want := []string{"exchange dlx", "queue failed", "bind failed", "queue work"}; !slices.Equal(order, want) {
		t.Errorf("declared %q, want %q", order, want)
	}
}

func TestS44DeadLettersAreKeptUntilTheirTargetIsThereAndVerifyNamesIt(t *testing.T) {
	b := kit.NeedsControl(t)
	kit.Needs43(t)
	ctx := kit.Within(t, 60*time.Second)
	// RabbitMQ tries a dead letter again after three minutes. A test does not wait as long.
	retryAfter := func(ctx context.Context, ms string) (old string) {
		const setting = "rabbit, dead_letter_worker_publisher_confirm_timeout"
		old, err := b.Ctl(ctx, "eval", "{ok, Old} = application:get_env("+setting+"), application:set_env("+setting+", "+ms+"), Old.")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(old)
	}
	old := retryAfter(ctx, "500")
	t.Cleanup(func() { retryAfter(context.WithoutCancel(ctx), old) })
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	topo := deadLetters(name)
	careless := topo
	careless.Queues = slices.Clone(topo.Queues)
	careless.Queues[0].Overflow = ""
	var wrong *amqperr.FieldError
	if err := careless.Declare(ctx, ac); !errors.As(err, &wrong) || !strings.HasSuffix(wrong.Field, ".DeadLetter.Strategy") {
		t.Errorf("Declare = %v, want a FieldError: RabbitMQ would fall back to at-most-once", err)
	}
	kit.Declared(t, ac, topo)
	if err := topo.Verify(ctx, ac); err != nil {
		t.Fatal(err)
	}

	ch := kit.RawChannel(t)
	if err := ch.ExchangeDelete(name("dlx"), false, false); err != nil {
		t.Fatal(err)
	}
	var missing *topology.MissingError
	if err := topo.Verify(ctx, ac); !errors.As(err, &missing) || missing.Object != fmt.Sprintf("exchange %q", name("dlx")) {
		t.Errorf("Verify = %v, want a MissingError that names the exchange", err)
	}
	bench := kit.NewConsumerBench(t)
	bench.Publish(name("work"), "m")
	rejected := make(chan bool, 1)
	r := bench.Start(consumer.Config{Queue: name("work"), HasDeadLetterExchange: true}, func(context.Context, *consumer.Delivery) error {
		rejected <- true
		return consumer.Reject(errors.New("no such customer"))
	})
	kit.Receive(t, rejected, "delivery")
	r.StopClean()

	start := time.Now()
	if err := topo.Declare(ctx, ac); err != nil {
		t.Fatal(err)
	}
	if d := bench.Take(name("failed")); string(d.Body) != "m" {
		t.Errorf("dead-lettered %q, want m", d.Body)
	}
	t.Logf("the dead letter came %v after its target", time.Since(start))
}
