package soak

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A tale makes up a history. Each line is a millisecond after the one before.
type tale struct {
	records []Record
	now     int64
	number  uint64 // of the last publish, and of the last delivery
	link    int    // the newest
	lasted  int64
}

const ms = int64(time.Millisecond)

func newTale() *tale {
	t := &tale{}
	t.put(Record{Settings: &Settings{
		Nodes: 1, Duration: 60e9, MaxInFlight: 10, Heartbeat: 2e9, Reconnect: 3e9,
		Clients:   map[string]Client{"a": {Publishes: true, Consumes: true}},
		Consumers: map[string]Consumer{"w": {Queue: "work", Prefetch: 5}, "d": {Queue: "dead", Prefetch: 5, Dead: true}},
	}})
	t.open(1)
	return t
}

func (t *tale) put(r Record) {
	if r.T == 0 {
		t.now += ms
		r.T = t.now
	}
	t.records = append(t.records, r)
}

func (t *tale) wire(link int, event string, w Wire) {
	w.Link, w.Event = link, event
	if w.Channel == 0 {
		w.Channel = 1
	}
	t.put(Record{Wire: &w})
}

func (t *tale) open(link int) {
	t.link = link
	t.wire(link, "Opened", Wire{Addr: fmt.Sprint(link)})
	t.wire(link, "ConnectionOpened", Wire{Client: "a", FromBroker: true})
	t.wire(link, "ChannelOpened", Wire{})
}

// publish announces a message, with a minute to live.
func (t *tale) publish(id string) *Publish {
	p := &Publish{ID: id, Client: "a", Route: "work", Sum: "s", Deadline: t.now + 60e9}
	t.put(Record{Publish: p})
	return p
}

// sent puts it on the wire and returns its tag.
func (t *tale) sent(link int, id string) uint64 {
	t.number++
	t.wire(link, "Published", Wire{MessageID: id, Tag: t.number})
	return t.number
}

func (t *tale) told(id, what string) *Outcome {
	o := &Outcome{ID: id, What: what}
	t.put(Record{Outcome: o})
	return o
}

// confirmed is a message that was published and confirmed.
func (t *tale) confirmed(id string) {
	t.publish(id)
	t.wire(t.link, "Confirmed", Wire{Tag: t.sent(t.link, id), MessageID: id})
	t.told(id, Confirmed)
}

func (t *tale) delivered(link int, consumer, id string, redelivered bool) uint64 {
	t.number++
	t.wire(link, "Delivered", Wire{MessageID: id, Tag: t.number, Consumer: consumer, Redelivered: redelivered})
	return t.number
}

func (t *tale) handled(consumer, id string, tag uint64, result string) *Handled {
	h := &Handled{ID: id, MessageID: id, Consumer: consumer, Tag: tag, Sum: "s", Result: result, Began: t.now}
	t.put(Record{Handled: h})
	return h
}

// processed is a message that was delivered, handled and acknowledged.
func (t *tale) processed(id string) *Handled {
	tag := t.delivered(t.link, "w-1-X", id, false)
	h := t.handled("w-1-X", id, tag, OK)
	t.wire(t.link, "Acked", Wire{Tag: tag, MessageID: id})
	return h
}

// again is a message that was delivered, handled and acknowledged once more.
func (t *tale) again(id string) *Handled {
	tag := t.delivered(t.link, "w-1-X", id, true)
	h := t.handled("w-1-X", id, tag, OK)
	h.Redelivered = true
	t.wire(t.link, "Acked", Wire{Tag: tag, MessageID: id})
	return h
}

// fault is one of half a second.
func (t *tale) fault(n int, kind string) *Fault {
	x := &Fault{N: n, Kind: kind, Clients: []string{"a"}}
	t.put(Record{Fault: x})
	t.now += 500 * ms
	t.put(Record{Fault: &Fault{N: n, Kind: kind, Over: true}})
	return x
}

// judge ends the tale some time later, with traffic again, and has it judged from its lines.
func (t *tale) judge(tb testing.TB) *Result {
	tb.Helper()
	t.confirmed("last")
	t.processed("last")
	t.now += 20e9
	t.put(Record{End: &End{Lasted: t.lasted}})
	var b bytes.Buffer
	h := NewHistory(&b)
	for _, r := range t.records {
		h.PutAt(h.began.Add(time.Duration(r.T)), r)
	}
	if err := h.Flush(); err != nil {
		tb.Fatal(err)
	}
	r, err := Judge(&b)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// held has so much more of something after the last client than before the first.
func held(more Sample) func(*tale) {
	return func(t *tale) {
		t.put(Record{Sample: &Sample{When: "before", Goroutines: 1, Sockets: 1}})
		t.put(Record{Sample: &Sample{When: "after", Goroutines: 1 + more.Goroutines, Sockets: 1 + more.Sockets, Connections: more.Connections}})
	}
}

// grown has a hundred megabytes more at the end of a run of some length.
func grown(in time.Duration) func(*tale) {
	return func(t *tale) {
		t.records[0].Settings.Duration = int64(in)
		t.put(Record{Sample: &Sample{When: "before"}})
		for i := range 9 {
			t.put(Record{Sample: &Sample{Heap: uint64(i/3) * 50e6}})
		}
		t.put(Record{Sample: &Sample{When: "after"}})
	}
}

// Each tale has one thing wrong with it, or looks as if it had.
func TestJudgeFindsWhatContradictsThePromises(t *testing.T) {
	for name, c := range map[string]struct {
		tell func(*tale)
		want string // the one kind of finding, and a part of its text; "" for none
	}{
		"all is well": {func(t *tale) { t.confirmed("m"); t.processed("m") }, ""},

		"confirmed and never delivered": {func(t *tale) { t.confirmed("m") }, lost},
		"confirmed and never processed": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.handled("w-1-X", "m", tag, Fail)
			t.wire(1, "Rejected", Wire{Tag: tag, Requeue: true})
		}, lost},
		"confirmed into a queue that was deleted": {func(t *tale) {
			t.publish("m").Doomed = true
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.told("m", Confirmed)
		}, ""},
		"rejected and processed as a dead letter": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.handled("w-1-X", "m", tag, Reject)
			t.wire(1, "Rejected", Wire{Tag: tag})
			tag = t.delivered(1, "d-1-X", "m", false)
			t.handled("d-1-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, ""},

		"not published, and handled": {func(t *tale) {
			t.publish("m")
			t.told("m", NotPublished)
			t.sent(1, "m")
			t.processed("m")
		}, phantom},
		"not published, and sent": {func(t *tale) { t.publish("m"); t.sent(1, "m"); t.told("m", NotPublished) }, phantom},
		"returned, and handled": {func(t *tale) {
			t.publish("m")
			tag := t.sent(1, "m")
			t.wire(1, "Returned", Wire{MessageID: "m"})
			t.wire(1, "Confirmed", Wire{Tag: tag})
			t.told("m", Returned)
			t.processed("m")
		}, phantom},
		"nacked, and handled": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Nacked", Wire{Tag: t.sent(1, "m")})
			t.told("m", Nacked)
			t.processed("m")
		}, phantom},

		"handled, and never published":     {func(t *tale) { t.sent(1, "m"); t.processed("m") }, unexpected},
		"on the wire, and never published": {func(t *tale) { t.sent(1, "m") }, unexpected + ": on the wire"},
		"handled under another message id": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.told("m", Confirmed)
			t.processed("m").MessageID = "other"
		}, unexpected},
		"handled under the producer's own message id": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "own-1")})
			t.told("m", Confirmed).MessageID = "own-1"
			h := t.processed("own-1")
			h.ID = "m"
		}, ""},
		"handled with another body": {func(t *tale) { t.confirmed("m"); t.processed("m").Sum = "x" }, corrupt},
		"given to two handlers": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.handled("w-1-X", "m", tag, Fail)
			t.handled("w-1-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, unexpected},

		"confirmed without a confirm": {func(t *tale) { t.publish("m"); t.sent(1, "m"); t.told("m", Confirmed); t.processed("m") }, misreported},
		"a nack without one":          {func(t *tale) { t.publish("m"); t.sent(1, "m"); t.told("m", Nacked) }, misreported},
		"a return without one":        {func(t *tale) { t.publish("m"); t.sent(1, "m"); t.told("m", Returned) }, misreported},
		"a confirm that came after the end": {func(t *tale) {
			p := t.publish("m")
			p.Deadline, p.Hasty = t.now, true
			tag := t.sent(1, "m")
			t.told("m", Unconfirmed)
			t.wire(1, "Confirmed", Wire{Tag: tag})
		}, ""},
		"a return taken for a confirm": {func(t *tale) {
			t.publish("m").Doomed = true
			tag := t.sent(1, "m")
			t.wire(1, "Returned", Wire{MessageID: "m"})
			t.wire(1, "Confirmed", Wire{Tag: tag})
			t.told("m", Confirmed)
		}, misreported + ": which nothing on the wire says"},
		"a nack taken for unknown": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Nacked", Wire{Tag: t.sent(1, "m")})
			t.told("m", Unconfirmed)
			t.fault(1, Cut)
		}, misreported},
		"a nack taken for unknown, just before the link is lost": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Nacked", Wire{Tag: t.sent(1, "m")})
			t.told("m", Unconfirmed)
			t.wire(1, "Lost", Wire{})
			t.open(2)
			t.fault(1, Cut)
		}, misreported},
		"a nack, after an attempt of unknown outcome": {func(t *tale) {
			t.publish("m").Once = false
			t.sent(1, "m")
			t.wire(1, "Lost", Wire{})
			t.open(2)
			t.wire(2, "Nacked", Wire{Tag: t.sent(2, "m")})
			t.told("m", Nacked)
		}, misreported + ": makes it unconfirmed"},
		"unknown, after an attempt of unknown outcome and a nack": {func(t *tale) {
			p := t.publish("m")
			t.sent(1, "m")
			t.wire(1, "Lost", Wire{})
			t.open(2)
			t.wire(2, "Nacked", Wire{Tag: t.sent(2, "m")})
			t.told("m", Unconfirmed)
			p.Deadline = t.now
			t.fault(1, Cut)
		}, ""},
		"unknown, while all stands": {func(t *tale) { t.publish("m"); t.sent(1, "m"); t.told("m", Unconfirmed); t.fault(1, Cut) }, misreported},
		"unknown, its channel lost, to be sent once": {func(t *tale) {
			t.publish("m").Once = true
			t.sent(1, "m")
			t.wire(1, "ChannelClosed", Wire{FromBroker: true, Code: 404})
			t.told("m", Unconfirmed)
			t.wire(1, "ChannelOpened", Wire{})
			t.fault(1, Cut)
		}, ""},
		"unknown, its link lost before it was handed on, to be sent once": {func(t *tale) {
			t.publish("m").Once = true
			t.wire(1, "Lost", Wire{})
			t.told("m", Unconfirmed)
			t.open(2)
			t.fault(1, Cut)
		}, ""},
		"unknown, its confirm overdue": {func(t *tale) {
			t.records[0].Settings.ConfirmTimeout = 10e9
			t.publish("m")
			t.sent(1, "m")
			t.now += 10e9
			t.told("m", Unconfirmed)
			t.fault(1, Cut)
		}, ""},
		"more unknown than can be in flight": {func(t *tale) {
			for i := range 11 {
				t.publish(fmt.Sprint(i)).Deadline = t.now
				t.told(fmt.Sprint(i), Unconfirmed)
			}
			t.fault(1, Cut)
		}, tooUnknown},
		"unknown, its channel lost, to be sent again": {func(t *tale) {
			t.publish("m")
			t.sent(1, "m")
			t.wire(1, "ChannelClosed", Wire{FromBroker: true, Code: 404})
			t.told("m", Unconfirmed)
			t.wire(1, "ChannelOpened", Wire{})
			t.fault(1, Cut)
		}, misreported},
		"a confirm that nobody told": {func(t *tale) {
			p := t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.now += 5e9
			p.Deadline = t.now
			t.told("m", Unconfirmed)
			t.fault(1, Cut)
		}, misreported + ": only at"},
		"a confirm that the client did not live to read": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.wire(1, "Lost", Wire{})
			t.now += 5e9
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.sent(2, "m")})
			t.told("m", Confirmed)
			t.processed("m")
		}, ""},
		"sent again although answered": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.told("m", Confirmed)
			t.processed("m")
			t.now += 2e9
			t.wire(1, "ChannelClosed", Wire{})
			t.open(2)
			t.sent(2, "m")
		}, misreported + ": although answered"},
		"sent twice on one channel": {func(t *tale) {
			t.publish("m")
			t.sent(1, "m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.told("m", Confirmed)
			t.processed("m")
		}, misreported + ": twice on one channel"},
		"sent again while the old channel is used": {func(t *tale) {
			t.publish("m")
			t.sent(1, "m")
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.sent(2, "m")})
			t.told("m", Confirmed)
			t.processed("m")
			t.link = 1
			t.confirmed("n")
			t.processed("n")
		}, misreported + ": while its channel was used"},
		"sent again while the proxy still hands on what the client had written": {func(t *tale) {
			t.publish("m")
			t.publish("n")
			t.sent(1, "m")
			t.put(Record{Closed: &Closed{Addr: "1"}})
			t.open(2)
			for _, id := range []string{"m", "n"} {
				t.wire(2, "Confirmed", Wire{Tag: t.sent(2, id)})
				t.told(id, Confirmed)
			}
			t.sent(1, "n")
			t.wire(1, "Lost", Wire{})
			t.processed("m")
			t.processed("n")
		}, ""},
		"sent twice, to be sent once": {func(t *tale) {
			t.publish("m").Once = true
			t.sent(1, "m")
			t.wire(1, "Lost", Wire{})
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.sent(2, "m")})
			t.told("m", Confirmed)
			t.processed("m")
		}, misreported + ": was to be sent once"},

		"acknowledged before the handler returned": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.wire(1, "Acked", Wire{Tag: tag})
			t.handled("w-1-X", "m", tag, OK)
		}, falseSettled},
		"acknowledged although the handler failed": {func(t *tale) {
			t.confirmed("m")
			t.processed("m")
			tag := t.delivered(1, "w-1-X", "m", true)
			t.handled("w-1-X", "m", tag, Fail).Redelivered = true
			t.wire(1, "Acked", Wire{Tag: tag})
			t.fault(1, Cut)
		}, falseSettled},
		"acknowledged under a lost session's tag": {func(t *tale) {
			t.confirmed("m")
			t.confirmed("n")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.wire(1, "Lost", Wire{})
			t.open(2)
			t.wire(2, "Delivered", Wire{Tag: tag, Consumer: "w-1-Y", MessageID: "n"})
			t.handled("w-1-X", "m", tag, OK)
			t.wire(2, "Acked", Wire{Tag: tag})
			t.handled("w-1-Y", "n", tag, OK)
		}, falseSettled},
		"acknowledged, and never delivered": {func(t *tale) { t.wire(1, "Acked", Wire{Tag: 7}) }, falseSettled},
		"settled twice": {func(t *tale) {
			t.confirmed("m")
			t.processed("m")
			t.wire(1, "Acked", Wire{Tag: t.number})
		}, falseSettled},
		"given back, not begun, by a consumer that ends": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.put(Record{Stop: &Stop{Run: "w-1"}})
			t.wire(1, "NackedByClient", Wire{Tag: tag, Requeue: true})
			tag = t.delivered(1, "w-2-X", "m", true)
			t.handled("w-2-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, ""},
		"given back, not begun, by a consumer that goes on": {func(t *tale) {
			t.confirmed("m")
			t.put(Record{Stop: &Stop{Run: "w-1"}})
			tag := t.delivered(1, "w-2-X", "m", false)
			t.wire(1, "NackedByClient", Wire{Tag: tag, Requeue: true})
			tag = t.delivered(1, "w-2-X", "m", true)
			t.handled("w-2-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, falseSettled},
		"given back although its handler succeeded": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.put(Record{Stop: &Stop{Run: "w-1"}})
			t.handled("w-1-X", "m", tag, OK)
			t.wire(1, "NackedByClient", Wire{Tag: tag, Requeue: true})
		}, falseSettled},
		"a channel closed over a settlement": {func(t *tale) {
			t.wire(1, "ChannelClosed", Wire{FromBroker: true, Code: 406, Text: "unknown delivery tag 7"})
			t.wire(1, "ChannelOpened", Wire{})
		}, refused},

		"delivered again, without a fault": {func(t *tale) {
			t.confirmed("m")
			t.processed("m")
			t.again("m")
		}, duplicated + ": delivered again"},
		"delivered again after a fault": {func(t *tale) { t.confirmed("m"); t.processed("m"); t.fault(1, Cut); t.again("m") }, ""},
		"delivered again after a fault, with nothing to show for it": {func(t *tale) {
			t.confirmed("m")
			t.processed("m")
			t.fault(1, Cut)
			t.again("m").Redelivered = false
		}, duplicated + ": delivered again"},
		"delivered afresh after a fault": {func(t *tale) {
			t.confirmed("m")
			t.delivered(1, "w-1-X", "m", false)
			t.fault(1, Cut)
			t.processed("m")
		}, duplicated + ": 2 times without the mark"},
		"delivered again more often than was held": {func(t *tale) {
			t.confirmed("m")
			t.processed("m")
			t.fault(1, Cut)
			for range 11 {
				t.again("m")
			}
		}, duplicated + ": 11 duplicates after 1 faults"},
		"delivered as often as sent": {func(t *tale) {
			t.publish("m")
			t.sent(1, "m")
			t.wire(1, "Lost", Wire{})
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.sent(2, "m")})
			t.told("m", Confirmed)
			t.processed("m")
			t.processed("m")
			t.fault(1, Cut)
		}, ""},
		"delivered again, although a Run said that nothing will be": {func(t *tale) {
			t.wire(1, "Subscribed", Wire{Consumer: "w-1-X"})
			t.confirmed("m")
			t.processed("m")
			t.put(Record{Stop: &Stop{Run: "w-1"}})
			t.put(Record{Call: &Call{What: ConsumerRun, Who: "w-1", Deadline: t.now + 5e9}})
			t.fault(1, Cut)
			tag := t.delivered(1, "w-2-X", "m", true)
			t.handled("w-2-X", "m", tag, OK).Redelivered = true
			t.wire(1, "Acked", Wire{Tag: tag})
		}, misreported},
		"out of order, without a fault": {func(t *tale) {
			for i, id := range []string{"m", "n"} {
				p := t.publish(id)
				p.Order, p.Seq = "o", i
				t.wire(1, "Confirmed", Wire{Tag: t.sent(1, id)})
				t.told(id, Confirmed)
			}
			t.processed("n")
			t.processed("m")
		}, disordered},

		"a publisher told late": {func(t *tale) {
			t.publish("m").Deadline = t.now + ms
			t.now += 300 * ms
			t.told("m", NotPublished)
		}, late},
		"a publisher told late by a machine that stood still": {func(t *tale) {
			t.publish("m").Deadline = t.now + ms
			t.now += 300 * ms
			t.told("m", NotPublished)
			t.put(Record{Sample: &Sample{Stall: 100 * ms}})
		}, ""},
		"a publisher that nobody told": {func(t *tale) { t.publish("m") }, unaccounted},
		"a close that took too long": {func(t *tale) {
			t.put(Record{Call: &Call{What: "close", Deadline: t.now}})
			t.records[len(t.records)-1].T += 300 * ms
		}, late},
		"a close that began when its time was over": {func(t *tale) {
			t.now += 1e9
			t.put(Record{Call: &Call{What: "close", Began: t.now, Deadline: t.now - 1e9}})
		}, ""},
		"silence after a fault": {func(t *tale) { t.fault(1, Cut); t.now += 5200 * ms }, late},
		"silence after two faults, the second within the bounds": {func(t *tale) {
			t.fault(1, Cut)
			t.now += 4e9
			t.fault(2, Cut)
			t.now += 4e9
		}, ""},
		"a dead peer that nobody notices": {func(t *tale) {
			t.put(Record{Fault: &Fault{N: 1, Kind: "hole", Clients: []string{"a"}, Deaf: true}})
			t.now += 5e9
			t.wire(1, "Lost", Wire{})
			t.put(Record{Fault: &Fault{N: 1, Over: true}})
			t.open(2)
		}, late},

		"a goroutine left behind":       {held(Sample{Goroutines: 1}), left + ": 1 goroutines"},
		"a socket left behind":          {held(Sample{Sockets: 1}), left + ": 1 sockets"},
		"a connection left behind":      {held(Sample{Connections: 1}), left + ": 1 connections"},
		"nothing left behind":           {held(Sample{}), ""},
		"a heap that grows in an hour":  {grown(time.Hour), left + ": MB of heap"},
		"a heap that grows in a minute": {grown(time.Minute), ""},
		"a message left in a queue":     {func(t *tale) { t.put(Record{Queue: &Queue{Name: "work", Unacked: 1}}) }, unaccounted},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTale()
			c.tell(x)
			r := x.judge(t)
			kind, text, _ := strings.Cut(c.want, ": ")
			ok := r.Verdict != Failed
			if c.want != "" {
				ok = r.Verdict == Failed && len(r.Reasons) == 1 && strings.HasPrefix(r.Reasons[0], kind+": ") && strings.Contains(r.Reasons[0], text)
			}
			if !ok {
				t.Errorf("%s: %q, want %q", r.Verdict, r.Reasons, c.want)
			}
		})
	}
}

// plenty is a tale with enough of everything.
func plenty() *tale {
	t := newTale()
	run := t.records[0].Settings
	run.Minimums, run.Rate, t.lasted = map[string]int{Cut: 1}, 4, 1e9
	for i := range 3 {
		t.confirmed(fmt.Sprint(i))
		t.processed(fmt.Sprint(i))
	}
	t.publish("returned")
	tag := t.sent(1, "returned")
	t.wire(1, "Returned", Wire{MessageID: "returned"})
	t.wire(1, "Confirmed", Wire{Tag: tag})
	t.told("returned", Returned)
	t.publish("nacked")
	t.wire(1, "Nacked", Wire{Tag: t.sent(1, "nacked")})
	t.told("nacked", Nacked)
	t.publish("never")
	t.told("never", NotPublished)
	p := t.publish("unknown")
	t.sent(1, "unknown")
	p.Deadline, p.Hasty = t.now, true
	t.told("unknown", Unconfirmed)
	for result, frame := range map[string]Wire{Fail: {Event: "Rejected", Requeue: true}, Reject: {Event: "Rejected"}, Requeue: {Event: "NackedByClient", Requeue: true}} {
		tag := t.delivered(1, "w-1-X", "0", true)
		t.handled("w-1-X", "0", tag, result).Redelivered = true
		frame.Tag = tag
		t.wire(1, frame.Event, frame)
	}
	t.wire(1, "Lost", Wire{})
	t.records[len(t.records)-1].T += 100 * ms
	t.now -= ms
	t.fault(1, Cut)
	t.open(2)
	return t
}

func TestRunWithTooLittleOfAnythingIsInvalid(t *testing.T) {
	if r := plenty().judge(t); r.Verdict != Valid {
		t.Fatalf("with enough of everything it is %s: %q", r.Verdict, r.Reasons)
	}
	without := func(drop func(Record) bool) *tale {
		x := plenty()
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
			return r.Publish != nil && r.Publish.ID == id || r.Outcome != nil && r.Outcome.ID == id || r.Handled != nil && r.Handled.ID == id || r.Wire != nil && r.Wire.MessageID == id
		}
	}
	for name, c := range map[string]struct {
		x    *tale
		want string
	}{
		"faults":   {func() *tale { x := plenty(); x.records[0].Settings.Minimums[Cut] = 2; return x }(), "1 faults of kind cut, which takes 2"},
		"returns":  {without(of("returned")), `no outcome "returned"`},
		"nacks":    {without(of("nacked")), `no outcome "nacked"`},
		"refusals": {without(of("never")), `no outcome "not published"`},
		"unknowns": {without(of("unknown")), `no outcome "unconfirmed"`},
		"confirms": {without(of("1")), "messages confirmed a second"},
		"time":     {func() *tale { x := plenty(); x.lasted = 60e9; return x }(), "messages confirmed a second"},
		"postponed": {without(func(r Record) bool {
			return r.Handled != nil && r.Handled.Result == Requeue || r.Wire != nil && r.Wire.Event == "NackedByClient"
		}), `no handler's result "requeue"`},
		"done": {func() *tale {
			x := plenty()
			for _, r := range x.records {
				if r.Fault != nil && r.Fault.Over {
					r.Fault.Err = "it could not be done"
				}
			}
			return x
		}(), "0 faults of kind cut"},
		"a kind": {func() *tale { x := plenty(); x.records[0].Settings.Minimums["kill"] = 5; return x }(), "0 faults of kind kill, which takes 5"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.x.judge(t)
			if r.Verdict != Invalid || !strings.Contains(strings.Join(r.Reasons, "\n"), c.want) {
				t.Errorf("%s: %q, want invalid over %q", r.Verdict, r.Reasons, c.want)
			}
		})
	}
}
