package integration

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
)

func TestS48SubscribingThatIsNotAnsweredStartsAgainOnAnotherConnection(t *testing.T) {
	proxy := amqptest.StartProxy(t, broker(t).URL())
	b := newConsumerBenchThrough(t, proxy.URL())
	queue := b.queue(nil)
	// The link is alive in one way, and the next one will be: only this subscribe gets no answer.
	if _, err := b.conn.ConsumeConnection(b.ctx()); err != nil {
		t.Fatal(err)
	}
	stuck := proxy.ForLinks(func(l amqptest.Link) bool { return l.ID == 1 })
	stuck.Pause(amqptest.FromBroker)
	got := make(chan string, 1)
	began := time.Now()
	r := b.begin(consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
		got <- string(d.Body)
		return nil
	})
	var failed *consumer.SubscribeError
	waitFor(t, func() bool { return errors.As(r.Err(), &failed) })
	if took := time.Since(began); took < 9*time.Second || took > 13*time.Second {
		t.Errorf("subscribing was given up after %v, want 10 s", took)
	}
	if !errors.Is(failed, context.DeadlineExceeded) || failed.Queue != queue {
		t.Errorf("Err = %v, want the end of the time", failed)
	}
	b.publish(queue, "m")
	if m := receive(t, got, "message"); m != "m" {
		t.Errorf("got %s", m)
	}
	if n := b.dialled(); n != 2 {
		t.Errorf("%d links dialled, want 2", n)
	}
	r.stopClean()
	stuck.Clear()
}

func TestS63ADeliveryLargerThanTheBoundIsDeadLettered(t *testing.T) {
	b := newConsumerBench(t)
	dead := b.queue(nil)
	queue := b.queue(amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	large := string(bytes.Repeat([]byte("x"), 101))
	b.publish(queue, large[:100])
	if err := b.plain.Publish("", queue, true, false, amqp.Publishing{MessageId: "large", Body: []byte(large)}); err != nil {
		t.Fatal(err)
	}
	b.publish(queue, "after")
	var log logbook
	got := make(chan string, 3)
	r := b.start(consumer.Config{Queue: queue, MaxBodySize: 100, HasDeadLetterExchange: true, Logger: log.logger()},
		func(_ context.Context, d *consumer.Delivery) error { got <- string(d.Body); return nil })
	for _, want := range []string{large[:100], "after"} {
		if m := receive(t, got, "message"); m != want {
			t.Errorf("got %d bytes, want %d", len(m), len(want))
		}
	}
	if d := b.take(dead); string(d.Body) != large {
		t.Errorf("dead-lettered %d bytes, want %d", len(d.Body), len(large))
	}
	r.stopClean()
	b.expectLeft(queue, 0)
	if log.count("MaxBodySize") != 1 || log.count("message_id=large") != 1 || log.count("bytes=101") != 1 {
		t.Error("the log does not tell of the message and its size")
	}
}

func TestS64ACompressedBodyIsDecodedOrDeadLetteredAsItWas(t *testing.T) {
	b := newConsumerBench(t)
	dead := b.queue(nil)
	queue := b.queue(amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
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
	r := b.start(consumer.Config{Queue: queue, HasDeadLetterExchange: true, Middleware: []consumer.Middleware{consumer.Decompress(0)}},
		consumer.JSON(func(_ context.Context, n int) error { got <- n; return nil }))
	for _, m := range []amqp.Publishing{
		{ContentEncoding: "gzip", Body: bomb.Bytes()},
		{ContentEncoding: "br", Body: []byte("7")},
		{ContentEncoding: "gzip", Body: small.Bytes()},
	} {
		m.DeliveryMode = amqp.Persistent
		if err := b.plain.Publish("", queue, true, false, m); err != nil {
			t.Fatal(err)
		}
	}
	if n := receive(t, got, "message"); n != 7 {
		t.Errorf("decoded %d, want 7", n)
	}
	if d := b.take(dead); d.ContentEncoding != "gzip" || !bytes.Equal(d.Body, bomb.Bytes()) {
		t.Error("the first dead-lettered message is not the bomb as it was published")
	}
	if d := b.take(dead); d.ContentEncoding != "br" || string(d.Body) != "7" {
		t.Error("the second dead-lettered message is not the unknown encoding as it was published")
	}
	r.stopClean()
	b.expectLeft(queue, 0)
}

func TestAConsumerTimeoutIsToldByTheTimeThatItTook(t *testing.T) {
	needs43(t)
	b := newConsumerBench(t)
	queue := b.queue(nil)
	b.publish(queue, "m")
	var log logbook
	begun := make(chan *consumer.Delivery, 10)
	release := make(chan struct{})
	r := b.start(consumer.Config{
		Queue: queue, Workers: 2, Logger: log.logger(),
		Arguments: amqp.Table{"x-consumer-timeout": 1500},
	}, func(_ context.Context, d *consumer.Delivery) error {
		begun <- d
		if !d.Redelivered {
			<-release
		}
		return nil
	})
	receive(t, begun, "delivery")
	if d := receive(t, begun, "redelivery"); !d.Redelivered {
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
	waitFor(t, func() bool { return log.count("result not sent") == 1 })
	r.stopClean()
	b.expectLeft(queue, 0)
	if n := len(begun); n > 0 {
		t.Errorf("%d more deliveries, want none", n)
	}
}
