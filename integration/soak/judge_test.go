package soak

import (
	"fmt"
	"strings"
	"testing"
)

// sufficient returns a history that reaches every minimum.
func sufficient() *builder {
	t := newBuilder()
	run := t.records[0].Settings
	run.Minimums, run.Rate, t.lasted = map[string]int{Cut: 1}, 5, 1e9
	for i := range 3 {
		t.confirm(fmt.Sprint(i))
		t.process(fmt.Sprint(i))
	}
	t.publish("returned")
	tag := t.send(1, "returned")
	t.wire(1, "Returned", Wire{MessageID: "returned"})
	t.wire(1, "Confirmed", Wire{Tag: tag})
	t.outcome("returned", Returned)
	t.publish("nacked")
	t.wire(1, "Nacked", Wire{Tag: t.send(1, "nacked")})
	t.outcome("nacked", Nacked)
	t.publish("never")
	t.outcome("never", NotPublished)
	p := t.publish("unknown")
	t.send(1, "unknown")
	p.Deadline, p.Hasty = t.now, true
	t.outcome("unknown", Unconfirmed)
	for result, frame := range map[string]Wire{Fail: {Event: "Rejected", Requeue: true}, Reject: {Event: "Rejected"}, Requeue: {Event: "DeliveryNacked", Requeue: true}} {
		tag := t.deliver(1, "w-1-X", "0", true)
		t.handle("w-1-X", "0", tag, result).Redelivered = true
		frame.Tag = tag
		t.wire(1, frame.Event, frame)
	}
	t.publishRetried("parked", 2, "rule")
	t.failAttempt("parked", 1, "wait1")
	t.failAttempt("parked", 2, "parked")
	t.park("parked", 2, "rule")
	run.Retry.Enough = 1
	t.wire(1, "LinkClosed", Wire{})
	t.fault(1, Cut)
	t.open(2)
	return t
}

func TestRunBelowAMinimumIsInvalid(t *testing.T) {
	if r := sufficient().judge(t); r.Verdict != Valid {
		t.Fatalf("sufficient history: %s: %q", r.Verdict, r.Reasons)
	}
	without := func(drop func(Record) bool) *builder {
		x := sufficient()
		kept := x.records[:0]
		for _, r := range x.records {
			if !drop(r) {
				kept = append(kept, r)
			}
		}
		x.records = kept
		return x
	}
	of := func(id string) func(Record) bool {
		return func(r Record) bool {
			return r.Publish != nil && r.Publish.ID == id || r.Outcome != nil && r.Outcome.ID == id || r.Handled != nil && r.Handled.ID == id ||
				r.Try != nil && r.Try.ID == id || r.Wire != nil && r.Wire.MessageID == id
		}
	}
	for name, c := range map[string]struct {
		x    *builder
		want string
	}{
		"faults":        {func() *builder { x := sufficient(); x.records[0].Settings.Minimums[Cut] = 2; return x }(), "1 faults of kind cut, want at least 2"},
		"returns":       {without(of("returned")), `no outcome "returned"`},
		"nacks":         {without(of("nacked")), `no outcome "nacked"`},
		"not published": {without(of("never")), `no outcome "not published"`},
		"unconfirmed":   {without(of("unknown")), `no outcome "unconfirmed"`},
		"confirms":      {without(of("1")), "messages confirmed a second"},
		"low rate":      {func() *builder { x := sufficient(); x.lasted = 60e9; return x }(), "messages confirmed a second"},
		"requeues": {without(func(r Record) bool {
			return r.Handled != nil && r.Handled.Result == Requeue || r.Wire != nil && r.Wire.Event == "DeliveryNacked"
		}), `no handler returned "requeue"`},
		"failed faults": {func() *builder {
			x := sufficient()
			for _, r := range x.records {
				if r.Fault != nil && r.Fault.Over {
					r.Fault.Err = "not injected"
				}
			}
			return x
		}(), "0 faults of kind cut"},
		"alarms": {func() *builder {
			x := sufficient()
			x.fault(2, Alarm)
			x.records[0].Settings.Minimums[Alarm] = 1
			return x
		}(), "no publish failed with ErrBlocked"},
		"retries": {func() *builder {
			x := without(of("parked"))
			x.publishRetried("m", 1, "rule")
			x.failAttempt("m", 1, "parked")
			x.park("m", 1, "rule")
			return x
		}(), "0 messages retried and 1 parked, want at least 1 each"},
		"parked": {func() *builder {
			x := without(of("parked"))
			x.publishRetried("m", 1, "")
			x.failAttempt("m", 1, "wait1")
			x.succeedAttempt("m", 2)
			return x
		}(), "1 messages retried and 0 parked"},
		"a kind without faults": {func() *builder { x := sufficient(); x.records[0].Settings.Minimums["kill"] = 5; return x }(), "0 faults of kind kill, want at least 5"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.x.judge(t)
			if r.Verdict != Invalid || !strings.Contains(strings.Join(r.Reasons, "\n"), c.want) {
				t.Errorf("%s: %q, want invalid because of %q", r.Verdict, r.Reasons, c.want)
			}
		})
	}
}

func TestUnfinishedRunIsInvalid(t *testing.T) {
	x := sufficient()
	x.publish("m")
	x.send(2, "the producer's own id")
	x.put(Record{End: &End{Lasted: 1e9, Err: "the broker did not recover"}})
	r, err := Judge(x.lines(t))
	if err != nil || r.Verdict != Invalid || !strings.Contains(r.Reasons[0], "did not recover") {
		t.Errorf("Judge = %+v, %v, want invalid for this reason only", r, err)
	}
}
