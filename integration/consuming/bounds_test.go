package consuming

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"regexp"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestS48SubscribingThatIsNotAnsweredStartsAgainOnAnotherConnection(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	b := kit.NewConsumerBenchThrough(t, proxy.URL())
	queue := b.Queue(nil)
	// The link is alive in one way, and the next one will be: only this subscribe gets no answer.
	if _, err := b.Conn.ConsumeConnection(b.Ctx()); err != nil {
		t.Fatal(err)
	}
	stuck := proxy.ForLinks(func(l amqptest.Link) bool { return l.ID == 1 })
	stuck.Pause(amqptest.FromBroker)
	got := make(chan string, 1)
	began := time.Now()
	r := b.Begin(consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		got <- string(d.Body)
		return nil
	})
	var failed *consumer.SubscribeError
	kit.WaitFor(t, func() bool { return errors.As(r.Err(), &failed) })
	if took := time.Since(began); took < 9*time.Second || took > 13*time.Second {
		t.Errorf("subscribing was given up after %v, want 10 s", took)
	}
	if !errors.Is(failed, context.DeadlineExceeded) || failed.Queue != queue {
		t.Errorf("Err = %v, want the end of the time", failed)
	}
	b.Publish(queue, "m")
	if m := kit.Receive(t, got, "message"); m != "m" {
		t.Errorf("got %s", m)
	}
	if n := b.Dialled(); n != 2 {
		t.Errorf("%d links dialled, want 2", n)
	}
	r.StopClean()
	stuck.Clear()
}

func TestS63ADeliveryLargerThanTheBoundIsDeadLettered(t *testing.T) {
	b := kit.NewConsumerBench(t)
	dead := b.Queue(nil)
	queue := b.Queue(amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	large := string(bytes.Repeat([]byte("x"), 101))
	b.Publish(queue, large[:100])
	if err := b.Plain.Publish("", queue, true, false, amqp.Publishing{MessageId: "large", Body: []byte(large)}); err != nil {
		t.Fatal(err)
	}
	b.Publish(queue, "after")
	var log kit.Logbook
	got := make(chan string, 3)
	r := b.Start(consumer.Config{Queue: queue, MaxBodySize: 100, HasDeadLetterExchange: true, Logger: log.Logger()},
		func(_ context.Context, d *consumer.Delivery) error { got <- string(d.Body); return nil })
	for _, want := range []string{large[:100], "after"} {
		if m := kit.Receive(t, got, "message"); m != want {
			t.Errorf("got %d bytes, want %d", len(m), len(want))
		}
	}
	if d := b.Take(dead); string(d.Body) != large {
		t.Errorf("dead-lettered %d bytes, want %d", len(d.Body), len(large))
	}
	r.StopClean()
	b.ExpectLeft(queue, 0)
	if log.Count("MaxBodySize") != 1 || log.Count("message_id=large") != 1 || log.Count("bytes=101") != 1 {
		t.Error("the log does not tell of the message and its size")
	}
}

func TestS64ACompressedBodyIsDecodedOrDeadLetteredAsItWas(t *testing.T) {
	b := kit.NewConsumerBench(t)
	dead := b.Queue(nil)
	queue := b.Queue(amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var small bytes.Buffer
	w = gzip.NewWriter(&small)
	if _, err := w.Write([]byte("7")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 1)
	r := b.Start(consumer.Config{Queue: queue, HasDeadLetterExchange: true, Middleware: []consumer.Middleware{consumer.Decompress(0)}},
		consumer.JSON(func(_ context.Context, n int) error { got <- n; return nil }))
	for _, m := range []amqp.Publishing{
		{ContentEncoding: "gzip", Body: bomb.Bytes()},
		{ContentEncoding: "br", Body: []byte("7")},
		{ContentEncoding: "gzip", Body: small.Bytes()},
	} {
		m.DeliveryMode = amqp.Persistent
		if err := b.Plain.Publish("", queue, true, false, m); err != nil {
			t.Fatal(err)
		}
	}
	if n := kit.Receive(t, got, "message"); n != 7 {
		t.Errorf("decoded %d, want 7", n)
	}
	if d := b.Take(dead); d.ContentEncoding != "gzip" || !bytes.Equal(d.Body, bomb.Bytes()) {
		t.Error("the first dead-lettered message is not the bomb as it was published")
	}
	if d := b.Take(dead); d.ContentEncoding != "br" || string(d.Body) != "7" {
		t.Error("the second dead-lettered message is not the unknown encoding as it was published")
	}
	r.StopClean()
	b.ExpectLeft(queue, 0)
}

func TestAConsumerTimeoutIsToldByTheTimeThatItTook(t *testing.T) {
	kit.Needs43(t)
	b := kit.NewConsumerBench(t)
	queue := b.Queue(nil)
	b.Publish(queue, "m")
	var log kit.Logbook
	begun := make(chan *consumer.Delivery, 10)
	release := make(chan struct{})
	r := b.Start(consumer.Config{
		Queue: queue, Workers: 2, Logger: log.Logger(),
		Arguments: amqp.Table{"x-consumer-timeout": 1500},
	}, func(_ context.Context, d *consumer.Delivery) error {
		begun <- d
		if !d.Redelivered {
			<-release
		}
		return nil
	})
	kit.Receive(t, begun, "delivery")
	if d := kit.Receive(t, begun, "redelivery"); !d.Redelivered {
		t.Error("the second delivery is no redelivery")
	}
	told := regexp.MustCompile(`RabbitMQ cancelled the consumer.*had been unsettled for ([0-9.a-z]+)`).FindStringSubmatch(log.String())
	if told == nil {
		t.Fatal("the log does not tell for how long the oldest delivery had been unsettled")
	}
	if took, err := time.ParseDuration(told[1]); err != nil || took < time.Second || took > 5*time.Second {
		t.Errorf("told of %s (%v), want about 1.5 s", told[1], err)
	}
	close(release)
	kit.WaitFor(t, func() bool { return log.Count("result not sent") == 1 })
	r.StopClean()
	b.ExpectLeft(queue, 0)
	if n := len(begun); n > 0 {
		t.Errorf("%d more deliveries, want none", n)
	}
}
