package consumer

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestHoldDoublesFromOneSecondToThirty(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		-1: time.Second, 0: time.Second, 1: 2 * time.Second, 2: 4 * time.Second, 3: 8 * time.Second,
		4: 16 * time.Second, 5: 30 * time.Second, 6: 30 * time.Second, math.MaxInt: 30 * time.Second,
	} {
		if got := holdFor(failures); got != want {
			t.Errorf("after %d failures held for %v, want %v", failures, got, want)
		}
	}
}

func TestHeldDeliveriesAreReleasedWhenDue(t *testing.T) {
	var w waiting
	start := time.Now()
	for _, s := range []int{3, 1, 2, 5} {
		w.add(held{due: start.Add(time.Duration(s) * time.Second), tag: uint64(s)})
	}
	if due, ok := w.next(); !ok || !due.Equal(start.Add(time.Second)) {
		t.Fatalf("next is due %v (%v), want a second after %v", due, ok, start)
	}
	var got []uint64
	for {
		h, ok := w.take(start.Add(3 * time.Second))
		if !ok {
			break
		}
		got = append(got, h.tag)
	}
	if !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("took %v within 3 s, want 1, 2, 3", got)
	}
	if rest := w.all(); len(rest) != 1 || rest[0].tag != 5 {
		t.Errorf("left %v, want the one due after 5 s", rest)
	}
	if _, ok := w.next(); ok {
		t.Error("a delivery is due after all were taken")
	}
}

func TestFailuresUseTheBrokersCountOrTheirOwn(t *testing.T) {
	f := failures{}
	d := func(redelivered bool, id string, h amqp.Table) *Delivery {
		return &Delivery{Delivery: amqp.Delivery{Redelivered: redelivered, MessageId: id, Headers: h}}
	}
	f.failed(d(false, "m", nil), 1)
	f.failed(d(false, "", nil), 1)
	count := func(n any) amqp.Table { return amqp.Table{"x-delivery-count": n} }
	for name, c := range map[string]struct {
		d    *Delivery
		want int
	}{
		"counted by a quorum queue":                {d(true, "m", count(int64(4))), 4},
		"a publisher's header on a first delivery": {d(false, "x", count(int64(9))), 0},
		"a header of another type":                 {d(true, "x", count("9")), 0},
		"a negative count":                         {d(true, "x", count(int64(-1))), 0},
		"classic queue, recorded message":          {d(true, "m", nil), 1},
		"classic queue, unrecorded message":        {d(true, "x", nil), 0},
		"a new message with the same id":           {d(false, "m", nil), 0},
		"no message id":                            {d(true, "", nil), 0},
	} {
		if got := f.of(c.d); got != c.want {
			t.Errorf("%s: %d failures, want %d", name, got, c.want)
		}
	}
	if f.settled(d(true, "m", nil)); f.of(d(true, "m", nil)) != 0 {
		t.Error("a settled message is still recorded")
	}
}

func TestFailuresRecordALimitedNumberOfMessages(t *testing.T) {
	f := failures{}
	for i := range 3 * maxFailing {
		f.failed(&Delivery{Delivery: amqp.Delivery{MessageId: fmt.Sprint(i)}}, 1)
	}
	if len(f) != maxFailing {
		t.Errorf("%d messages remembered, want %d", len(f), maxFailing)
	}
}

func TestRejectedMessageFromAWaitQueueDoesNotCountAsCycling(t *testing.T) {
	rejected := amqp.Table{"queue": "orders", "reason": "rejected", "count": int64(3)}
	for name, c := range map[string]struct {
		deaths any
		want   bool
	}{
		"never died":                 {nil, false},
		"rejected, straight back":    {[]any{rejected}, true},
		"rejected elsewhere":         {[]any{amqp.Table{"queue": "other", "reason": "rejected"}}, false},
		"through a wait queue":       {[]any{amqp.Table{"queue": "wait", "reason": "expired"}, rejected}, false},
		"through one before":         {[]any{rejected, amqp.Table{"queue": "wait", "reason": "expired"}}, true},
		"a header of something else": {[]any{"rejected", 7}, false},
		"not a list":                 {"rejected", false},
	} {
		d := &Delivery{Delivery: amqp.Delivery{Headers: amqp.Table{"x-death": c.deaths}}}
		if got := rejectedFrom("orders", d); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
