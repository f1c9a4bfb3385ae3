package consuming

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/producer"
)

// Handlers run, confirms are pending, and the network swallows everything: each end takes its ctx and 250 ms at
// most, and says what is left.
func TestS45EndingEverythingOnABlackHoleIsBoundedAndTellsWhatIsLeft(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	queue, other := b.Queue(nil), b.Queue(nil)
	b.Publish(queue, kit.Numbers(3)...)
	p := kit.NewProducer(t, b.Conn, producer.Config{})
	if err := p.Publish(b.Ctx(), "", other, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	begun, release := make(chan struct{}, 3), make(chan struct{})
	r := b.Start(consumer.Config{Queue: queue, Workers: 3, DrainTimeout: 300 * time.Millisecond}, func(context.Context, *consumer.Delivery) error {
		begun <- struct{}{}
		<-release
		return nil
	})
	for range 3 {
		kit.Receive(t, begun, "delivery")
	}
	proxy.Blackhole(amqptest.BothDirections)
	const pending = 5
	for range pending {
		if _, err := p.PublishAsync(context.Background(), "", other, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
	}

	bounded := func(what string, limit time.Duration, end func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		began := time.Now()
		err := end(ctx)
		took := time.Since(began)
		t.Logf("%s returned after %v: %v", what, took.Round(time.Millisecond), err)
		if took > limit+250*time.Millisecond {
			t.Errorf("%s returned after %v, want %v + 250 ms at most", what, took, limit)
		}
		return err
	}
	// Run's bound is its drain time, at least 5 s for calls to the broker, and half a second for handlers that
	// were cancelled; these ignore that.
	err := bounded("Run", 5500*time.Millisecond, func(context.Context) error { return r.Stop() })
	var left *consumer.DrainError
	if !errors.As(err, &left) || left.Unfinished != 3 || left.Running != 3 {
		t.Errorf("Run = %v, want a *DrainError of three handlers that still run", err)
	}
	err = bounded("producer.Close", 500*time.Millisecond, p.Close)
	if !errors.Is(err, producer.ErrUnconfirmed) {
		t.Errorf("producer.Close = %v, want ErrUnconfirmed", err)
	}
	if err = bounded("conn.Close", 500*time.Millisecond, b.Conn.Close); err != nil {
		t.Errorf("conn.Close = %v, want nil: nothing of it is held", err)
	}
	close(release)
	proxy.Clear()
	b.ExpectLeft(queue, 3)
	b.ExpectLeft(other, 1)
}

const childQueue = "AMQPKIT_TEST_CHILD_QUEUE" // set in the process that TestS47 kills

func TestS47AMessageWhoseProcessIsKilledComesBackAndKeepsItsHeaders(t *testing.T) {
	if queue := os.Getenv(childQueue); queue != "" {
		consumeUntilKilled(t, queue)
		return
	}
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	headers := amqp.Table{"x-attempt": int32(3), "tenant": "a"}
	if err := b.Plain.Publish("", queue, true, false, amqp.Publishing{MessageId: "m", Headers: headers, Body: []byte("body")}); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(b.Ctx(), os.Args[0], "-test.run=^TestS47")
	child.Env = append(os.Environ(), childQueue+"="+queue, "AMQP_URL="+b.Broker.URL())
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if bytes.Contains(lines.Bytes(), []byte("handling m")) {
			break
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	_ = child.Wait() // "signal: killed"

	got := make(chan *consumer.Delivery, 1)
	r := b.Start(consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		got <- d
		return nil
	})
	d := kit.Receive(t, got, "redelivery")
	t.Logf("redelivered %v after the kill", time.Since(killed).Round(time.Millisecond))
	if !d.Redelivered || string(d.Body) != "body" || d.MessageId != "m" {
		t.Errorf("got %q, %q, redelivered %v", d.MessageId, d.Body, d.Redelivered)
	}
	if d.Headers["x-attempt"] != int32(3) || d.Headers["tenant"] != "a" {
		t.Errorf("the headers are %v, want the publisher's own unchanged", d.Headers)
	}
	r.StopClean()
	b.ExpectLeft(queue, 0)
}

func consumeUntilKilled(t *testing.T, queue string) {
	t.Helper()
	conn := kit.Connect(t, amqpkit.Config{})
	c, err := consumer.New(conn, consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		fmt.Println("handling", d.MessageId)
		select {} // until the process is killed
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Error(c.Run(t.Context()))
}

// Every attempt fails: exactly as many as the limit says, then the dead-letter queue, unchanged, with the reason, and
// nothing waits meanwhile.
func TestS65APoisonBodyIsTriedAsOftenAsTheLimitSaysAndHoldsUpNothing(t *testing.T) {
	b := kit.NewConsumerBench(t)
	dead := b.Queue(amqp.Table{"x-delivery-limit": -1})
	const limit = 2
	queue := b.Queue(amqp.Table{"x-delivery-limit": limit, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	body := bytes.Repeat([]byte{0, 0xff, '\n'}, 1000)
	if err := b.Plain.Publish("", queue, true, false, amqp.Publishing{MessageId: "poison", ContentType: "application/x", Body: body}); err != nil {
		t.Fatal(err)
	}
	attempts, others := make(chan struct{}, 100), make(chan time.Time, 100)
	r := b.Start(consumer.Config{Queue: queue, Workers: 2, Prefetch: 10, HasDeadLetterExchange: true}, func(_ context.Context, d *consumer.Delivery) error {
		if d.MessageId == "poison" {
			attempts <- struct{}{}
			return errors.New("cannot be worked on")
		}
		others <- time.Now()
		return nil
	})
	var worst time.Duration
	for len(attempts) <= limit { // other messages are published and handled all the time
		sent := time.Now()
		b.Publish(queue, "other")
		worst = max(worst, kit.Receive(t, others, "other message").Sub(sent))
	}
	d := b.Take(dead)
	r.StopClean()
	t.Logf("attempts %d; the slowest other message took %v", len(attempts), worst.Round(time.Millisecond))
	if len(attempts) != limit+1 {
		t.Errorf("%d attempts, want %d", len(attempts), limit+1)
	}
	if worst > time.Second {
		t.Errorf("another message waited %v", worst)
	}
	if d.MessageId != "poison" || d.ContentType != "application/x" || !bytes.Equal(d.Body, body) {
		t.Errorf("dead-lettered %q of type %q, %d bytes: not the original", d.MessageId, d.ContentType, len(d.Body))
	}
	if reason := d.Headers["x-first-death-reason"]; reason != "delivery_limit" {
		t.Errorf("x-first-death-reason is %v", reason)
	}
	if err := b.Broker.AwaitQueue(b.Ctx(), queue, func(c rabbit.Counts) bool { return c.Ready+c.Unacked == 0 }); err != nil {
		t.Error(err)
	}
}
