package broker

import (
	"fmt"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// counts formats a delivery's redelivery counts.
func counts(d amqp.Delivery) string {
	return fmt.Sprint(d.Redelivered, " ", d.Headers["x-acquired-count"], " ", d.Headers["x-delivery-count"])
}

func TestRedeliveryCounts(t *testing.T) {
	for kind, want := range map[string][]string{
		kindClassic: {"false <nil> <nil>", "true <nil> <nil>", "true <nil> <nil>", "true <nil> <nil>", "true <nil> <nil>"},
		kindQuorum:  {"false <nil> <nil>", "true 1 <nil>", "true 2 1", "true 3 2", "true 4 2"},
	} {
		s := newStage(t)
		s.declare("q", amqp.Table{"x-queue-type": kind})
		s.send("q", "m")
		for i, back := range []func(d amqp.Delivery){
			func(d amqp.Delivery) { s.must(d.Nack(false, true)) },
			func(d amqp.Delivery) { s.must(d.Reject(true)) },
			func(amqp.Delivery) { s.must(s.ch.Close()); s.ch = s.channel() },
			func(amqp.Delivery) { s.must(s.recover(s.ch, true)) },
			func(d amqp.Delivery) { s.must(d.Ack(false)) },
		} {
			d, ok := s.get("q")
			if !ok || counts(d) != want[i] {
				t.Errorf("%s, delivery %d: %v %s, want %s", kind, i+1, ok, counts(d), want[i])
			}
			back(d)
		}
		s.expectReady("q")
	}
}

func TestDeliveryLimit(t *testing.T) {
	for name, c := range map[string]struct {
		limit any
		want  int
	}{"default": {nil, 21}, "3": {3, 4}, "0": {0, 1}, "none": {-1, 0}, "a string": {"3", 21}} {
		s := newStage(t)
		args := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dlq"}
		if c.limit != nil {
			args["x-delivery-limit"] = c.limit
		}
		s.quorum("q", args)
		s.quorum("dlq", nil)
		s.send("q", "m")
		n := 0
		for ; n < 40; n++ {
			d, ok := s.get("q")
			if !ok {
				break
			}
			s.must(d.Reject(true))
		}
		if c.want == 0 {
			s.expectReady("q", "m")
			continue
		}
		if n != c.want {
			t.Errorf("limit %s: %d deliveries, want %d", name, n, c.want)
		}
		d, _ := s.get("dlq")
		if counts(d) != fmt.Sprint("true ", n, " ", n) || deathOf(d, 0) != "q delivery_limit 1" {
			t.Errorf("limit %s: %s %v", name, counts(d), d.Headers)
		}
	}
}

// A message requeued without a failure is not counted and can be requeued indefinitely.
func TestNackDoesNotCount(t *testing.T) {
	s := newStage(t)
	s.quorum("q", amqp.Table{"x-delivery-limit": 1})
	s.send("q", "m")
	for range 10 {
		d, _ := s.get("q")
		s.must(d.Nack(false, true))
	}
	s.expectReady("q", "m")
}

func TestRequeuedMessagesKeepTheirOrder(t *testing.T) {
	for kind, want := range map[string][]string{
		kindClassic: {"0", "1", "3", "4", "5"},
		kindQuorum:  {"3", "1", "0", "4", "5"},
	} {
		s := newStage(t)
		s.declare("q", amqp.Table{"x-queue-type": kind})
		s.send("q", "0", "1", "2", "3", "4", "5")
		ch := s.channel()
		s.must(ch.Qos(5, 0, false))
		ds := s.consume(ch, "q", nil)
		var got []amqp.Delivery
		for range 5 {
			got = append(got, s.next(ds))
		}
		s.must(ch.Cancel(got[0].ConsumerTag, false))
		s.must(got[3].Nack(false, true))
		s.must(got[1].Nack(false, true))
		s.must(got[2].Ack(false))
		s.must(ch.Close()) // and 0 and 4
		s.expectReady("q", want...)
	}
}

func TestAckSettlesOneOrAllBefore(t *testing.T) {
	s := newStage(t)
	s.classic("q", nil)
	s.send("q", "1", "2", "3", "4", "5", "6")
	for range 6 {
		s.get("q")
	}
	s.must(s.ch.Ack(3, true))
	s.must(s.ch.Nack(5, true, true))
	s.expectReady("q", "4", "5")
	if q, _ := s.Queue("/", "q"); q.Unacked != 1 {
		t.Errorf("%+v, want one unacked", q)
	}
	s.must(s.ch.Reject(6, false))
	s.must(s.ch.Ack(0, true)) // none is outstanding
	closed := s.ch.NotifyClose(make(chan *amqp.Error, 1))
	s.must(s.ch.Ack(6, false))
	expectError(t, next(t, closed), 406, "unknown delivery tag 6")
}

func TestPrefetchAppliesPerConsumer(t *testing.T) {
	s := newStage(t)
	s.quorum("q", nil)
	s.send("q", "1", "2", "3", "4", "5", "6")
	ch := s.channel()
	s.must(ch.Qos(2, 0, true)) // RabbitMQ 4.3 applies global per consumer too
	a, b := s.consume(ch, "q", nil), s.consume(ch, "q", nil)
	first := s.next(a)
	s.next(a)
	s.next(b)
	s.next(b)
	if q, _ := s.Queue("/", "q"); q.Ready != 2 || q.Unacked != 4 {
		t.Fatalf("%+v, want 2 ready", q)
	}
	s.must(first.Ack(false))
	if d := s.next(a); string(d.Body) != "5" {
		t.Errorf("got %s", d.Body)
	}
}

func TestTransactionsPublishAndSettleAtCommit(t *testing.T) {
	s := newStage(t)
	s.classic("q", nil)
	tx := s.channel()
	s.must(tx.Tx())
	send := func(body string) {
		s.must(tx.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Body: []byte(body)}))
	}
	send("rolled back")
	s.must(tx.TxRollback())
	send("a")
	s.expectReady("q")
	s.must(tx.TxCommit())
	s.expectReady("q", "a")

	d, _, err := tx.Get("q", false)
	s.must(err)
	s.must(d.Ack(false))
	s.must(tx.TxRollback())
	s.must(d.Nack(false, true)) // unsettled again
	s.must(tx.TxCommit())
	s.expectReady("q", "a")

	s.classic("full", amqp.Table{"x-max-length": 0, "x-overflow": rejectPublish})
	s.must(tx.PublishWithContext(t.Context(), "", "full", false, false, amqp.Publishing{}))
	expectError(t, tx.TxCommit(), 406, "partial tx completion")
}
