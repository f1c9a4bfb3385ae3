package broker

import (
	"fmt"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// RabbitMQ retries within about three minutes, too long for a conformance scenario.
func TestAtLeastOnceRetriesWhenAFullQueueHasRoom(t *testing.T) {
	for _, kind := range []string{"classic", "quorum"} {
		t.Run(kind, func(t *testing.T) {
			s := newStage(t)
			s.must(s.ch.ExchangeDeclare("dlx", "fanout", true, false, false, false, nil))
			s.declare("full", amqp.Table{"x-queue-type": kind, "x-max-length": 1, "x-overflow": "reject-publish"})
			s.classic("free", nil)
			for _, q := range []string{"full", "free"} {
				s.must(s.ch.QueueBind(q, "", "dlx", false, nil))
			}
			s.quorum("work", amqp.Table{
				"x-dead-letter-exchange": "dlx", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
			})
			s.send("full", "x", "y")
			s.send("work", "m")
			d, _ := s.get("work")
			s.must(d.Nack(false, false))
			s.expectReady("free", "m")
			if q, _ := s.Queue("/", "work"); q.PendingDeadLetters != 1 {
				t.Fatalf("%+v", q)
			}
			_, err := s.ch.QueuePurge("full", false)
			s.must(err)
			s.expectReady("full", "m")
			s.expectReady("free", "m")
			if q, _ := s.Queue("/", "work"); q.PendingDeadLetters != 0 {
				t.Errorf("%+v", q)
			}
		})
	}
}

// A queue that dead-letters rejected messages to itself does not retry indefinitely while it is full.
func TestAtLeastOnceDoesNotLoopOnAFullQueue(t *testing.T) {
	s := newStage(t)
	s.classic("full", amqp.Table{
		"x-max-length": 0, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work",
	})
	s.quorum("work", amqp.Table{
		"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "full", "x-dead-letter-strategy": "at-least-once",
		"x-overflow": "reject-publish",
	})
	s.send("work", "m")
	d, _ := s.get("work")
	s.must(d.Nack(false, false))
	s.expectReady("work", "m")
}

func TestOnlyQueuesWithPendingDeadLettersAreRetried(t *testing.T) {
	s := newStage(t)
	for i := range 1000 {
		s.classic(fmt.Sprint(i), nil)
	}
	allocations := testing.AllocsPerRun(10, func() { s.update(s.vhosts["/"].retryDeadLetters) })
	if allocations > 5 {
		t.Errorf("%v allocations for 1000 queues of which none waits", allocations)
	}
}

func TestPublishedIsBoundedByBytes(t *testing.T) {
	s := newStage(t)
	m := &message{properties: new(codec.Properties), body: make([]byte, maxLogBytes/4)}
	for range 10 {
		s.update(func() { s.record(m) })
	}
	if n := len(s.log); n != 4 || s.logBytes != maxLogBytes {
		t.Errorf("%d messages, %d bytes", n, s.logBytes)
	}
	s.update(func() { s.record(&message{properties: m.properties, body: make([]byte, maxLogBytes+1)}) })
	if n := len(s.log); n != 1 {
		t.Errorf("%d messages, want the one that is larger", n)
	}
}

func TestUnknownArgumentsAreReportedInOrderOfNames(t *testing.T) {
	s := newStage(t)
	for range 10 { // amqp091-go sends them in random order
		_, err := s.channel().QueueDeclare("q", true, false, false, false, amqp.Table{
			"x-max-age": "1h", "x-delivery-limit": 1, "x-max-in-memory-length": 1,
		})
		expectError(t, err, preconditionFailed, "'x-delivery-limit'")
	}
}
