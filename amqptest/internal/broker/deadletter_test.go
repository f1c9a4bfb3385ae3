package broker

import (
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// deathOf formats an entry of x-death.
func deathOf(d amqp.Delivery, i int) string {
	list, _ := d.Headers["x-death"].([]any)
	if i >= len(list) {
		return ""
	}
	e := list[i].(amqp.Table)
	return fmt.Sprint(e["queue"], " ", e["reason"], " ", e["count"])
}

func TestDeadLettersRecordTheirDeaths(t *testing.T) {
	for _, kind := range []string{kindClassic, kindQuorum} {
		s := newStage(t)
		to := func(name string, more amqp.Table) amqp.Table {
			more = with(more, "x-queue-type", kind)
			return with(with(more, "x-dead-letter-exchange", ""), "x-dead-letter-routing-key", name)
		}
		s.declare("work", to("wait1", nil))
		s.declare("wait1", to("wait2", amqp.Table{"x-message-ttl": 1000}))
		s.declare("wait2", to("work", amqp.Table{"x-message-ttl": 2000}))
		began := s.Now()
		s.publish("", "work", amqp.Publishing{Expiration: "60000", Headers: amqp.Table{"own": "h"}})
		var d amqp.Delivery
		for range 3 {
			d, _ = s.get("work")
			s.must(d.Reject(false))
			s.sync()
			s.Advance(3 * time.Second)
		}
		d, ok := s.get("work")
		if !ok || deathOf(d, 0) != "wait2 expired 3" || deathOf(d, 1) != "wait1 expired 3" || deathOf(d, 2) != "work rejected 3" || deathOf(d, 3) != "" {
			t.Fatalf("%s: %v", kind, d.Headers)
		}
		first := d.Headers["x-death"].([]any)[2].(amqp.Table)
		if at := first["time"].(time.Time); at.Sub(began.Truncate(time.Second)) > time.Second {
			t.Errorf("%s: its time is %v, want that of the first, %v", kind, at, began)
		}
		if fmt.Sprintf("%v/%v/%v", first["routing-keys"], first["exchange"], first["original-expiration"]) != "[work]//60000" || d.Expiration != "" {
			t.Errorf("%s: %v, expiration %q", kind, first, d.Expiration)
		}
		for k, want := range map[string]any{
			"own": "h", "x-first-death-queue": "work", "x-first-death-reason": "rejected", "x-first-death-exchange": "",
			"x-last-death-queue": "wait2", "x-last-death-reason": "expired", "x-last-death-exchange": "",
		} {
			if d.Headers[k] != want {
				t.Errorf("%s: %s is %v, want %v", kind, k, d.Headers[k], want)
			}
		}

		// A message republished by a client with these headers starts again.
		s.must(d.Ack(false))
		s.publish("", "work", amqp.Publishing{Headers: d.Headers})
		if d, _ = s.get("work"); deathOf(d, 2) != "work rejected 3" {
			t.Errorf("%s: %v, want it as published", kind, d.Headers)
		}
		s.must(d.Reject(false))
		s.sync()
		s.Advance(time.Second)
		if d, _ = s.get("wait2"); deathOf(d, 0) != "wait1 expired 1" || deathOf(d, 1) != "work rejected 1" || deathOf(d, 2) != "" {
			t.Errorf("%s: %v, want new counts", kind, d.Headers)
		}
	}
}

func TestCycleWithoutRejectionIsDropped(t *testing.T) {
	s := newStage(t)
	s.classic("a", amqp.Table{"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"})
	s.quorum("b", amqp.Table{"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"})
	s.send("a", "m")
	s.sync()
	s.Advance(10 * time.Millisecond)
	s.expectReady("b", "m")
	s.Advance(time.Second)
	s.expectReady("a")
	s.expectReady("b")
}

func TestMessagesExpireOnlyAtTheHead(t *testing.T) {
	for _, kind := range []string{kindClassic, kindQuorum} {
		s := newStage(t)
		s.declare("q", amqp.Table{"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dlq"})
		s.classic("dlq", nil)
		for _, ttl := range []string{"300", "20", ""} {
			s.publish("", "q", amqp.Publishing{Expiration: ttl, Body: []byte("ttl " + ttl)})
		}
		s.sync()
		s.Advance(299 * time.Millisecond)
		s.expectReady("q", "ttl 300", "ttl 20", "ttl ") // the second one expires only at the head
		s.Advance(time.Millisecond)
		s.expectReady("q", "ttl ")
		s.expectReady("dlq", "ttl 300", "ttl 20")

		s.publish("", "q", amqp.Publishing{Expiration: "0", Body: []byte("behind")})
		s.expectReady("q", "ttl ", "behind")
		d, _ := s.get("q")
		s.must(d.Ack(false))
		s.expectReady("q")
		ds := s.consume(s.channel(), "q", nil)
		s.publish("", "q", amqp.Publishing{Expiration: "0", Body: []byte("now or never")})
		if d := s.next(ds); string(d.Body) != "now or never" {
			t.Errorf("got %s", d.Body)
		}
	}
}

func TestLengthLimits(t *testing.T) {
	for name, c := range map[string]struct {
		args             amqp.Table
		acks             string
		ready, deadNames []string
	}{
		"classic":            {amqp.Table{"x-max-length": 2}, "AAAA", []string{"m3", "m4"}, []string{"m1", "m2"}},
		"quorum":             {amqp.Table{"x-max-length": 2, "x-queue-type": "quorum"}, "AAAA", []string{"m3", "m4"}, []string{"m1", "m2"}},
		"bytes":              {amqp.Table{"x-max-length-bytes": 5}, "AAAA", []string{"m3", "m4"}, []string{"m1", "m2"}},
		"quorum bytes":       {amqp.Table{"x-max-length-bytes": 7, "x-queue-type": "quorum"}, "AAAA", []string{"m4"}, []string{"m1", "m2", "m3"}},
		"reject":             {amqp.Table{"x-max-length": 2, "x-overflow": "reject-publish"}, "AANN", []string{"m1", "m2"}, nil},
		"quorum reject":      {amqp.Table{"x-max-length": 2, "x-overflow": "reject-publish", "x-queue-type": "quorum"}, "AAAN", []string{"m1", "m2", "m3"}, nil},
		"reject-dlx":         {amqp.Table{"x-max-length": 2, "x-overflow": "reject-publish-dlx"}, "AANN", []string{"m1", "m2"}, []string{"m3", "m4"}},
		"quorum reject-dlx":  {amqp.Table{"x-max-length": 2, "x-overflow": "reject-publish-dlx", "x-queue-type": "quorum"}, "AAAA", []string{"m3", "m4"}, []string{"m1", "m2"}},
		"none may ever stay": {amqp.Table{"x-max-length": 0}, "AAAA", nil, []string{"m1", "m2", "m3", "m4"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.declare("q", with(with(c.args, "x-dead-letter-exchange", ""), "x-dead-letter-routing-key", "dlq"))
			s.classic("dlq", nil)
			s.must(s.ch.Confirm(false))
			acks := ""
			for i := range 4 {
				dc, err := s.ch.PublishWithDeferredConfirm("", "q", false, false, amqp.Publishing{Body: fmt.Appendf(nil, "m%d", i+1)})
				s.must(err)
				if dc.Wait() {
					acks += "A"
				} else {
					acks += "N"
				}
			}
			if acks != c.acks {
				t.Errorf("confirms %s, want %s", acks, c.acks)
			}
			s.expectReady("q", c.ready...)
			s.expectReady("dlq", c.deadNames...)
			if len(c.deadNames) > 0 {
				if d, _ := s.get("dlq"); deathOf(d, 0) != "q maxlen 1" {
					t.Errorf("%v", d.Headers)
				}
			}
		})
	}
}

// A quorum queue that rejects messages accepts again once it is well below its limit.
func TestRejectingQuorumQueueAcceptsAgain(t *testing.T) {
	s := newStage(t)
	s.quorum("q", amqp.Table{"x-max-length": 5, "x-overflow": "reject-publish"})
	s.send("q", "1", "2", "3", "4", "5", "6", "rejected")
	for _, more := range []string{"rejected", "7"} { // the second get leaves 4, which is 80 % of 5
		d, _ := s.get("q")
		s.must(d.Ack(false))
		s.send("q", more)
	}
	s.expectReady("q", "3", "4", "5", "6", "7")
}

func TestCountsTravelWithDeadLetters(t *testing.T) {
	for _, kind := range []string{kindClassic, kindQuorum} {
		s := newStage(t)
		s.declare("q", amqp.Table{"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dlq"})
		s.quorum("dlq", amqp.Table{"x-delivery-limit": 2})
		s.send("q", "m")
		d, _ := s.get("q")
		s.must(d.Reject(false))
		for i, want := range []string{"true 1 1", "true 1 2"} {
			d, ok := s.get("dlq")
			if !ok || counts(d) != want {
				t.Fatalf("%s, delivery %d: %v %s, want %s", kind, i, ok, counts(d), want)
			}
			s.must(d.Reject(true))
		}
		s.expectReady("dlq") // the limit is exceeded after two, because the rejection counts
	}
}

func TestAtLeastOnceKeepsUndeliverableDeadLetters(t *testing.T) {
	for missing, come := range map[string]func(s *stage){
		"exchange": func(s *stage) {
			s.must(s.ch.ExchangeDeclare("dlx", "fanout", true, false, false, false, amqp.Table{"alternate-exchange": "amq.fanout"}))
		},
		"binding": func(s *stage) { s.must(s.ch.QueueBind("dlq", "", "dlx", false, nil)) },
		"queue":   func(s *stage) { s.classic("dlq", nil) },
	} {
		s := newStage(t)
		s.quorum("q", amqp.Table{
			"x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once", "x-dead-letter-routing-key": "dlq",
			"x-dead-letter-exchange": map[string]string{"exchange": "dlx", "binding": "dlx", "queue": ""}[missing],
		})
		if missing != "queue" {
			s.classic("dlq", nil)
		}
		if missing == "exchange" {
			s.must(s.ch.QueueBind("dlq", "", "amq.fanout", false, nil))
		} else {
			s.must(s.ch.ExchangeDeclare("dlx", "fanout", true, false, false, false, nil))
		}
		s.send("q", "m")
		d, _ := s.get("q")
		s.must(d.Reject(false))
		s.expectReady("q")
		if q, _ := s.Queue("/", "q"); q.PendingDeadLetters != 1 {
			t.Fatalf("without the %s: %+v, want one pending", missing, q)
		}
		come(s)
		s.expectReady("dlq", "m")
		if q, _ := s.Queue("/", "q"); q.PendingDeadLetters != 0 {
			t.Errorf("with the %s: %+v, want none pending", missing, q)
		}
	}
}

func TestDelayedRetry(t *testing.T) {
	for kind, want := range map[string][3]time.Duration{ // after nack, then two rejects
		"all":      {500 * time.Millisecond, 500 * time.Millisecond, time.Second},
		"failed":   {0, 500 * time.Millisecond, time.Second},
		"returned": {500 * time.Millisecond, 0, 0},
		"bogus":    {},
	} {
		s := newStage(t)
		s.quorum("q", amqp.Table{"x-delayed-retry-type": kind, "x-delayed-retry-min": 500, "x-delayed-retry-max": 2000})
		s.send("q", "m")
		for i, wait := range want {
			d, ok := s.get("q")
			if !ok {
				t.Fatalf("%s: nothing for delivery %d", kind, i)
			}
			if i == 0 {
				s.must(d.Nack(false, true))
			} else {
				s.must(d.Reject(true))
			}
			s.sync()
			if wait == 0 {
				continue
			}
			s.Advance(wait - 1)
			if q, _ := s.Queue("/", "q"); q.Ready != 0 || q.Delayed != 1 {
				t.Errorf("%s, delivery %d: %+v before the time", kind, i, q)
			}
			s.Advance(1)
		}
		s.expectReady("q", "m")
	}
}
