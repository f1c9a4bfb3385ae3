package soak

import (
	"testing"
	"time"
)

func TestJudgeFindsExceededTimeLimits(t *testing.T) {
	for name, c := range map[string]judgeCase{
		"a late outcome": {func(t *builder) {
			t.publish("m").Deadline = t.now + ms
			t.now += 300 * ms
			t.outcome("m", NotPublished)
		}, late},
		"a late outcome on an overloaded machine": {func(t *builder) {
			t.publish("m").Deadline = t.now + ms
			t.now += 300 * ms
			t.outcome("m", NotPublished)
			t.put(Record{Sample: &Sample{TimerDelay: 100 * ms}})
		}, ""},
		"a late close": {func(t *builder) {
			t.put(Record{Call: &Call{What: "close", Deadline: t.now}})
			t.records[len(t.records)-1].T += 300 * ms
		}, late},
		"a close after its deadline": {func(t *builder) {
			t.now += 1e9
			t.put(Record{Call: &Call{What: "close", Began: t.now, Deadline: t.now - 1e9}})
		}, ""},
		"a Run that returned without being stopped": {func(t *builder) {
			t.put(Record{Call: &Call{What: ConsumerRun, Who: "w-1", Deadline: t.now + 1e9, Unasked: true}})
		}, stoppedEarly},
		"no traffic after a fault": {func(t *builder) { t.fault(1, Cut); t.now += 5200 * ms }, late},
		"no traffic after two faults, the second one within the limit": {func(t *builder) {
			t.fault(1, Cut)
			t.now += 4e9
			t.fault(2, Cut)
			t.now += 4e9
		}, ""},
		"a dead peer noticed too late": {func(t *builder) {
			t.put(Record{Fault: &Fault{N: 1, Kind: "hole", Clients: []string{"a"}, Deaf: true}})
			t.now += 5e9
			t.wire(1, "LinkClosed", Wire{})
			t.put(Record{Fault: &Fault{N: 1, Over: true}})
			t.open(2)
		}, late},
	} {
		t.Run(name, c.test)
	}
}

// closeLink closes a link by force as fault n. The next traffic is on another link, after until.
func (t *builder) closeLink(n, link int, until time.Duration) {
	t.put(Record{Fault: &Fault{N: n, Kind: Close, Clients: []string{"a"}}})
	t.wire(link, "Confirmed", Wire{FromBroker: true}) // in the same packet as the close
	lostAt := t.now
	t.put(Record{T: lostAt, Wire: &Wire{Link: link, Event: "ConnectionClosed", FromBroker: true, Code: 320}})
	t.wire(link, "Confirmed", Wire{FromBroker: true})
	t.wire(link, "LinkClosed", Wire{})
	t.put(Record{Fault: &Fault{N: n, Kind: Close, Over: true}})
	t.open(link + 1)
	t.wire(link+1, "Subscribed", Wire{Consumer: "w-1-X"})
	id := time.Duration(n).String()
	t.publish(id)
	tag := t.send(link+1, id)
	t.now = lostAt + int64(until) - ms
	t.wire(link+1, "Confirmed", Wire{Tag: tag})
	t.outcome(id, Confirmed)
	delivery := t.deliver(link+1, "w-1-X", id, false)
	t.handle("w-1-X", id, delivery, OK)
	t.wire(link+1, "Acked", Wire{Tag: delivery})
}

func TestRecoveryLastsUntilTheNextTraffic(t *testing.T) {
	x := newBuilder()
	x.wire(1, "Subscribed", Wire{Consumer: "w-1-X"})
	x.publish("m")
	x.wire(1, "Confirmed", Wire{Tag: x.send(1, "m")})
	x.outcome("m", Confirmed)
	x.process("m")
	for i, until := range []time.Duration{20 * time.Millisecond, 30 * time.Millisecond, 40 * time.Millisecond} {
		x.closeLink(i+1, i+1, until)
	}
	r := x.judge(t)
	if r.ConfirmP50 != 30 || r.ConfirmP99 != 40 || r.DeliveryP50 != 32 || r.Recoveries != 6 {
		t.Errorf("%d recoveries, confirm p50 %v ms and p99 %v ms, delivery p50 %v ms: want 6, 30, 40 and 32",
			r.Recoveries, r.ConfirmP50, r.ConfirmP99, r.DeliveryP50)
	}
}

func TestRecoveryDuringAnotherFaultDoesNotCount(t *testing.T) {
	x := newBuilder()
	x.confirm("m")
	x.process("m")
	x.put(Record{Fault: &Fault{N: 9, Kind: Alarm, Clients: []string{"a"}}})
	x.closeLink(1, 1, 20*time.Millisecond)
	x.put(Record{Fault: &Fault{N: 9, Kind: Alarm, Over: true}})
	if r := x.judge(t); r.Recoveries != 0 {
		t.Errorf("%d recoveries, want none", r.Recoveries)
	}
}

func TestOutageIsMeasuredFromTheEndOfTheFault(t *testing.T) {
	x := newBuilder()
	x.put(Record{Fault: &Fault{N: 1, Kind: Kill, Clients: []string{"a"}, Nodes: []int{0}, Outage: true}})
	x.wire(1, "LinkClosed", Wire{})
	x.now += 5e9
	x.put(Record{Fault: &Fault{N: 1, Kind: Kill, Over: true}})
	x.now += 100 * ms
	x.open(2)
	x.confirm("m")
	x.process("m")
	r := x.judge(t)
	if r.Outages != 2 || r.OutageMax != 108 || r.Verdict == Failed {
		t.Errorf("%d outages, at most %v ms, reasons %q; want 2, 108 ms and no finding", r.Outages, r.OutageMax, r.Reasons)
	}
}
