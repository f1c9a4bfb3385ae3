package broker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestAdvanceRunsTimersInOrder(t *testing.T) {
	s := newStage(t)
	for from, to := range map[string]string{"a": "b", "b": "c"} {
		s.classic(from, amqp.Table{"x-message-ttl": 3_600_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": to})
	}
	s.classic("c", amqp.Table{"x-message-ttl": 3_600_000})
	s.send("a", "m")
	s.sync()
	began := s.Now()
	s.Advance(2 * time.Hour)
	s.expectReady("c", "m")
	if m := s.Messages("/", "c")[0]; m.Expires.Sub(began) != 3*time.Hour {
		t.Errorf("it expires after %v, want 3h: each hop at its time", m.Expires.Sub(began))
	}
	if took := s.Now().Sub(began); took != 2*time.Hour {
		t.Errorf("the clock moved by %v", took)
	}
}

// In a testing/synctest bubble the real clock advances without Advance.
func TestRealClockNeedsNoAdvance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.ManualClock = false
		s := newStageWith(t, cfg)
		s.quorum("wait", amqp.Table{"x-message-ttl": 3_600_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"})
		s.classic("work", nil)
		ds := s.consume(s.channel(), "work", nil)
		s.send("wait", "m")
		s.sync()
		began := time.Now()
		d := <-ds
		if took := time.Since(began); took != time.Hour || deathOf(d, 0) != "wait expired 1" {
			t.Errorf("after %v: %v", took, d.Headers)
		}
	})
}

func TestTimersFireInOrder(t *testing.T) {
	var c clock
	c.init(true, nil)
	var ran []int
	timers := make([]timer, 12)
	start := c.now()
	for i := range timers {
		timers[i].run = func() { ran = append(ran, i) }
		c.set(&timers[i], start.Add(2))
	}
	c.set(&timers[7], start.Add(1)) // earlier
	c.set(&timers[3], start.Add(9)) // later
	c.unset(&timers[5])
	c.unset(&timers[5])
	c.run(start.Add(5))
	if want := []int{7, 0, 1, 2, 4, 6, 8, 9, 10, 11}; !slices.Equal(ran, want) || len(c.heap.list) != 1 {
		t.Errorf("ran %v, want %v, and %d left", ran, want, len(c.heap.list))
	}
}
