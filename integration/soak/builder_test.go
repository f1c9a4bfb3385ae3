package soak

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A builder makes a history for a test. Each record is one millisecond after the previous one.
type builder struct {
	records []Record
	now     int64
	number  uint64 // tag of the last publish or delivery
	link    int    // number of the newest link
	lasted  int64
}

const ms = int64(time.Millisecond)

func newBuilder() *builder {
	t := &builder{}
	t.put(Record{Settings: &Settings{
		Nodes: 1, Duration: 60e9, MaxInFlight: 10, Heartbeat: 2e9, Reconnect: 3e9,
		Clients: map[string]Client{"a": {Publishes: true, Consumes: true}},
		Consumers: map[string]Consumer{
			"w": {Queue: "work", Prefetch: 5}, "d": {Queue: "dead", Prefetch: 5, Dead: true},
			"r": {Queue: "retry", Dead: true}, "p": {Queue: "parked"},
		},
		Retry: Retry{Queue: "retry", Waits: []Wait{{"wait1", 10 * ms}, {"wait2", 20 * ms}}, Parked: "parked"},
	}})
	t.open(1)
	return t
}

func (t *builder) put(r Record) {
	if r.T == 0 {
		t.now += ms
		r.T = t.now
	}
	t.records = append(t.records, r)
}

func (t *builder) wire(link int, event string, w Wire) {
	w.Link, w.Event = link, event
	if w.Channel == 0 {
		w.Channel = 1
	}
	t.put(Record{Wire: &w})
}

func (t *builder) open(link int) {
	t.link = link
	t.wire(link, "LinkOpened", Wire{Addr: fmt.Sprint(link)})
	t.wire(link, "ConnectionOpened", Wire{Client: "a", FromBroker: true})
	t.wire(link, "ChannelOpened", Wire{})
}

// publish adds a Publish record with a deadline of one minute.
func (t *builder) publish(id string) *Publish {
	p := &Publish{ID: id, Client: "a", Route: "work", Sum: "s", Deadline: t.now + 60e9}
	t.put(Record{Publish: p})
	return p
}

// send adds the message to the wire and returns its tag.
func (t *builder) send(link int, id string) uint64 {
	t.number++
	t.wire(link, "Published", Wire{MessageID: id, Tag: t.number})
	return t.number
}

func (t *builder) outcome(id, what string) *Outcome {
	o := &Outcome{ID: id, What: what}
	t.put(Record{Outcome: o})
	return o
}

// confirm publishes a message and confirms it.
func (t *builder) confirm(id string) {
	t.publish(id)
	t.wire(t.link, "Confirmed", Wire{Tag: t.send(t.link, id), MessageID: id})
	t.outcome(id, Confirmed)
}

func (t *builder) deliver(link int, consumer, id string, redelivered bool) uint64 {
	t.number++
	t.wire(link, "Delivered", Wire{MessageID: id, Tag: t.number, Consumer: consumer, Redelivered: redelivered})
	return t.number
}

func (t *builder) handle(consumer, id string, tag uint64, result string) *Handled {
	h := &Handled{ID: id, MessageID: id, Consumer: consumer, Tag: tag, Sum: "s", Result: result, Began: t.now}
	t.put(Record{Handled: h})
	return h
}

// process delivers a message, handles it and acknowledges it.
func (t *builder) process(id string) *Handled {
	tag := t.deliver(t.link, "w-1-X", id, false)
	h := t.handle("w-1-X", id, tag, OK)
	t.wire(t.link, "Acked", Wire{Tag: tag, MessageID: id})
	return h
}

// redeliver delivers a message as redelivered, handles it and acknowledges it.
func (t *builder) redeliver(id string) *Handled { return t.redeliverTo("w-1-X", id) }

func (t *builder) redeliverTo(consumer, id string) *Handled {
	tag := t.deliver(t.link, consumer, id, true)
	h := t.handle(consumer, id, tag, OK)
	h.Redelivered = true
	t.wire(t.link, "Acked", Wire{Tag: tag, MessageID: id})
	return h
}

// publishRetried publishes a message on the retry route and confirms it. It must fail the given number of times.
func (t *builder) publishRetried(id string, fails int, why string) {
	p := t.publish(id)
	p.Route, p.Fails, p.Why = toRetry, fails, why
	t.wire(t.link, "Confirmed", Wire{Tag: t.send(t.link, id), MessageID: id})
	t.outcome(id, Confirmed)
}

// attempt delivers a message on the retry route after a delay and adds an attempt. It returns the delivery's tag and
// start.
func (t *builder) attempt(id string, attempt int, result string) (tag uint64, began int64, x *Try) {
	t.now += 20 * ms
	tag, began = t.deliver(t.link, "r-1-X", id, false), t.now
	x = &Try{ID: id, Began: began, Attempt: attempt, Result: result}
	t.put(Record{Try: x})
	return tag, began, x
}

// move publishes a failed message to another queue and returns the tag of its confirm.
func (t *builder) move(link int, id, queue string) uint64 {
	t.number++
	t.wire(link, "Published", Wire{MessageID: id, Tag: t.number, Key: queue})
	return t.number
}

func (t *builder) settle(id string, tag uint64, began int64, result string) *Handled {
	h := t.handle("r-1-X", id, tag, result)
	h.Began = began
	t.wire(t.link, "Acked", Wire{Tag: tag, MessageID: id})
	return h
}

// failAttempt adds a failed attempt and a confirmed move to another queue.
func (t *builder) failAttempt(id string, attempt int, queue string) *Try {
	tag, began, x := t.attempt(id, attempt, Fail)
	t.wire(t.link, "Confirmed", Wire{Tag: t.move(t.link, id, queue), MessageID: id})
	t.settle(id, tag, began, Moved)
	return x
}

// succeedAttempt adds a successful attempt.
func (t *builder) succeedAttempt(id string, attempt int) *Try {
	tag, began, x := t.attempt(id, attempt, OK)
	t.settle(id, tag, began, OK)
	return x
}

// park delivers a message from the parking queue and acknowledges it.
func (t *builder) park(id string, attempts int, why string) *Handled {
	tag := t.deliver(t.link, "p-1-X", id, false)
	h := t.handle("p-1-X", id, tag, OK)
	h.Attempts, h.Why = attempts, why
	t.wire(t.link, "Acked", Wire{Tag: tag, MessageID: id})
	return h
}

// stopRun stops a Run, which returns nil.
func (t *builder) stopRun(run string) {
	t.put(Record{Stop: &Stop{Run: run}})
	t.put(Record{Call: &Call{What: ConsumerRun, Who: run, Deadline: t.now + 5e9}})
}

// fault adds a fault of half a second.
func (t *builder) fault(n int, kind string) {
	t.put(Record{Fault: &Fault{N: n, Kind: kind, Clients: []string{"a"}}})
	t.now += 500 * ms
	t.put(Record{Fault: &Fault{N: n, Kind: kind, Over: true}})
}

// judge adds the end of the history after some traffic, encodes it and judges it.
func (t *builder) judge(tb testing.TB) *Result {
	tb.Helper()
	t.confirm("last")
	t.process("last")
	t.now += 20e9
	t.put(Record{End: &End{Lasted: t.lasted}})
	r, err := Judge(t.lines(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// lines returns the encoded history.
func (t *builder) lines(tb testing.TB) *bytes.Buffer {
	tb.Helper()
	var b bytes.Buffer
	h := NewHistory(&b)
	for _, r := range t.records {
		h.PutAt(h.began.Add(time.Duration(r.T)), r)
	}
	if err := h.Flush(); err != nil {
		tb.Fatal(err)
	}
	return &b
}

// A judgeCase is a history that contains one contradiction, or none although it resembles one.
type judgeCase struct {
	build func(*builder)
	want  string // the only kind of finding and a part of its text; empty for none
}

func (c judgeCase) test(t *testing.T) {
	x := newBuilder()
	c.build(x)
	r := x.judge(t)
	kind, text, _ := strings.Cut(c.want, ": ")
	ok := r.Verdict != Failed
	if c.want != "" {
		ok = r.Verdict == Failed && len(r.Reasons) == 1 && strings.HasPrefix(r.Reasons[0], kind+": ") && strings.Contains(r.Reasons[0], text)
	}
	if !ok {
		t.Errorf("%s: %q, want %q", r.Verdict, r.Reasons, c.want)
	}
}
