package soak

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
)

// never is later than everything.
const never = math.MaxInt64

// A story is what the records of a run tell, put together: who published what, which of it went over the wire, what
// the broker answered, who handled it.
type story struct {
	run  Settings
	end  *End
	last int64 // when the last record was

	messages map[string]*message // by ID
	order    []*message          // as published
	foreign  []*handling         // of messages that nobody published
	twice    []deliveryID        // deliveries that two handlers got
	traces   map[string]*trace   // by message id

	links    map[linkID]*link
	byClient map[string][]*link // those whose client is known
	handled  map[deliveryID]*handling
	stopped  map[string]bool   // the Runs of consumers that were told to end
	tags     map[string]string // by Run: the tag of its newest subscription
	settles  []falseSettle
	closes   []*Wire            // channels and connections that the broker closed over what it was sent
	answers  map[string][]int64 // by client: when the broker answered a publish
	arrivals map[string][]int64 // by client: when a delivery came
	faults   []*fault           // in the order of their beginning
	calls    []timed[Call]
	byAddr   map[string]*link // the newest from a client's address
	samples  []timed[Sample]
	queues   []Queue
}

type timed[T any] struct {
	at int64
	v  T
}

type linkID struct{ node, link int }

// A link is a connection through a proxy.
type link struct {
	id        linkID
	client    string
	opened    int64
	closed    int64 // when either side said so, or it was lost without; never, while it stands
	lost      int64 // when the client closed its socket, or the proxy the link, whichever was first
	shut      int64 // when the client closed its socket
	publishes bool
	consumes  bool
	channels  map[uint16]*channel
}

// A channel is one of a link; a later one may have its number.
type channel struct {
	link       *link
	ended      int64 // never, while it stands
	published  int64 // when the client last published on it
	unanswered map[uint64]*attempt
	deliveries map[uint64]*delivery
}

func (c *channel) end(at int64) { c.ended = min(c.ended, at) }

// A trace is what went over the wire under one message id.
type trace struct {
	attempts []*attempt
	fresh    int // deliveries from queues other than those of dead letters, not marked as redelivered
}

// An attempt is a message handed on to the broker.
type attempt struct {
	at       int64 // when it was, but no later than the client hung up
	ch       *channel
	returned int64 // when basic.return was handed on to the client; 0: it was not
	answered int64 // when its confirm was; 0: it was not
	acked    bool
}

// reached reports whether the client must have read the answer: the channel outlived it by the slack.
func (a *attempt) reached(slack int64) bool {
	return a.answered > 0 && a.ch.ended-slack > a.answered
}

type delivery struct {
	consumer string
	settled  bool
}

// A deliveryID is unique: no two subscriptions have the same tag.
type deliveryID struct {
	consumer string
	tag      uint64
}

// A message is one that was published, with what became of it.
type message struct {
	Publish
	at       int64 // when it was published
	told     int64 // when its publisher was told
	outcome  *Outcome
	outcomes int
	handled  []*handling // in the order of their beginning
	trace    *trace
}

// messageID is what it carries on the wire.
func (m *message) messageID() string {
	if m.outcome != nil && m.outcome.MessageID != "" {
		return m.outcome.MessageID
	}
	return m.ID
}

func (m *message) is(what string) bool { return m.outcome != nil && m.outcome.What == what }

func (m *message) processed() bool {
	for _, h := range m.handled {
		if h.Result == OK {
			return true
		}
	}
	return false
}

type handling struct {
	Handled
	at int64
}

type falseSettle struct {
	at  int64
	why string
}

type fault struct {
	Fault
	from, to int64
}

// concerns reports whether the fault is about the links of a client.
func (f *fault) concerns(client string) bool {
	for _, c := range f.Clients {
		if c == client {
			return true
		}
	}
	return false
}

// tell puts the records together.
func tell(records iter.Seq2[Record, error]) (*story, error) {
	s := &story{
		messages: map[string]*message{},
		traces:   map[string]*trace{},
		links:    map[linkID]*link{},
		byClient: map[string][]*link{},
		byAddr:   map[string]*link{},
		handled:  map[deliveryID]*handling{},
		stopped:  map[string]bool{},
		tags:     map[string]string{},
		answers:  map[string][]int64{},
		arrivals: map[string][]int64{},
	}
	faults := map[int]*fault{}
	for r, err := range records {
		if err != nil {
			return nil, err
		}
		s.last = r.T
		switch {
		case r.Settings != nil:
			s.run = *r.Settings
		case r.Publish != nil:
			m := &message{Publish: *r.Publish, at: r.T}
			s.messages[m.ID] = m
			s.order = append(s.order, m)
		case r.Outcome != nil:
			m := s.messages[r.Outcome.ID]
			if m == nil {
				return nil, fmt.Errorf("soak: an outcome of %q, which was not published", r.Outcome.ID)
			}
			m.outcome, m.told = r.Outcome, r.T
			m.outcomes++
		case r.Handled != nil:
			s.hear(&handling{*r.Handled, r.T})
		case r.Stop != nil:
			s.stopped[r.Stop.Run] = true
		case r.Call != nil:
			s.calls = append(s.calls, timed[Call]{r.T, *r.Call})
		case r.Closed != nil:
			if l := s.byAddr[r.Closed.Addr]; l != nil {
				l.shut = r.T
				l.lose(r.T)
			}
		case r.Wire != nil:
			s.see(r.T, r.Wire)
		case r.Fault != nil && !r.Fault.Over:
			f := &fault{Fault: *r.Fault, from: r.T, to: never}
			faults[f.N] = f
			s.faults = append(s.faults, f)
		case r.Fault != nil:
			if f := faults[r.Fault.N]; f != nil {
				f.to, f.Err = r.T, r.Fault.Err
			}
		case r.Sample != nil:
			s.samples = append(s.samples, timed[Sample]{r.T, *r.Sample})
		case r.Queue != nil:
			s.queues = append(s.queues, *r.Queue)
		case r.End != nil:
			s.end = r.End
		}
	}
	for _, m := range s.order {
		if m.trace = s.traces[m.messageID()]; m.trace == nil {
			m.trace = &trace{}
		}
		slices.SortStableFunc(m.trace.attempts, func(a, b *attempt) int { return cmp.Compare(a.at, b.at) })
		slices.SortStableFunc(m.handled, func(a, b *handling) int { return cmp.Compare(a.Began, b.Began) })
	}
	return s, nil
}

func (s *story) hear(h *handling) {
	id := deliveryID{h.Consumer, h.Tag}
	if s.handled[id] != nil {
		s.twice = append(s.twice, id)
	}
	s.handled[id] = h
	if m := s.messages[h.ID]; m != nil {
		m.handled = append(m.handled, h)
		return
	}
	s.foreign = append(s.foreign, h)
}

// see takes in what a proxy saw.
func (s *story) see(at int64, w *Wire) {
	l := s.linkOf(at, w)
	c := l.channels[w.Channel]
	if c == nil {
		c = l.newChannel(w.Channel)
	}
	switch w.Event {
	case "Opened":
		s.byAddr[w.Addr] = l
	case "Lost":
		l.lose(at)
	case "ConnectionClosed":
		l.end(at)
		if w.FromBroker && w.Code > 500 && w.Code < 530 { // frames that make no sense
			s.closes = append(s.closes, w)
		}
	case "ChannelOpened":
		l.newChannel(w.Channel)
	case "ChannelClosed":
		c.end(at)
		if w.FromBroker && w.Code == 406 {
			s.closes = append(s.closes, w)
		}
	case "Published":
		at = min(at, l.lost) // what the client wrote before it hung up may be handed on later
		l.publishes, c.published = true, at
		a := &attempt{at: at, ch: c}
		c.unanswered[w.Tag] = a
		t := s.traceOf(w.MessageID)
		t.attempts = append(t.attempts, a)
	case "Returned":
		for _, a := range s.traceOf(w.MessageID).attempts {
			if a.ch == c {
				a.returned = at
			}
		}
	case "Confirmed", "Nacked":
		if a := c.unanswered[w.Tag]; a != nil {
			delete(c.unanswered, w.Tag)
			a.answered, a.acked = at, w.Event == "Confirmed"
		}
		if l.closed > at { // what came along with the close, or after it, is no traffic
			s.answers[l.client] = append(s.answers[l.client], at)
		}
	case "Subscribed":
		l.consumes = true
		s.tags[runOf(w.Consumer)] = w.Consumer
	case "Delivered":
		c.deliveries[w.Tag] = &delivery{consumer: w.Consumer}
		if l.closed > at {
			s.arrivals[l.client] = append(s.arrivals[l.client], at)
		}
		if !w.Redelivered && !s.consumerOf(w.Consumer).Dead {
			s.traceOf(w.MessageID).fresh++
		}
	case "Acked", "Rejected", "NackedByClient":
		if why := s.wrong(c, w); why != "" {
			s.settles = append(s.settles, falseSettle{at, why})
		}
	}
}

func (s *story) linkOf(at int64, w *Wire) *link {
	id := linkID{w.Node, w.Link}
	l := s.links[id]
	if l == nil {
		l = &link{id: id, opened: at, closed: never, lost: never, shut: never, channels: map[uint16]*channel{}}
		s.links[id] = l
	}
	if l.client == "" && w.Client != "" {
		l.client = w.Client
		s.byClient[l.client] = append(s.byClient[l.client], l)
	}
	return l
}

func (l *link) lose(at int64) {
	l.lost = min(l.lost, at)
	l.end(at)
}

func (l *link) end(at int64) {
	l.closed = min(l.closed, at)
	for _, c := range l.channels {
		c.end(at)
	}
}

func (l *link) newChannel(number uint16) *channel {
	c := &channel{link: l, ended: l.lost, unanswered: map[uint64]*attempt{}, deliveries: map[uint64]*delivery{}}
	l.channels[number] = c
	return c
}

func (s *story) traceOf(messageID string) *trace {
	t := s.traces[messageID]
	if t == nil {
		t = &trace{}
		s.traces[messageID] = t
	}
	return t
}

// runOf returns the Run that a consumer tag is of: "NAME-RUN" is followed by a dash and random letters.
func runOf(tag string) string { return beforeLastDash(tag) }

// consumerOf returns the consumer that a tag is of.
func (s *story) consumerOf(tag string) Consumer { return s.run.Consumers[beforeLastDash(runOf(tag))] }

func beforeLastDash(s string) string { return s[:max(0, strings.LastIndexByte(s, '-'))] }

// settlements are the frames by which a handler's result may be settled, with their requeue bits.
var settlements = map[string]string{
	OK:      "Acked",
	Reject:  "Rejected",
	Fail:    "Rejected requeue",
	Requeue: "NackedByClient requeue",
}

// wrong says what is wrong with a settlement, or "". Everything that could excuse it has happened before it.
func (s *story) wrong(c *channel, w *Wire) string {
	frame := w.Event
	if w.Requeue {
		frame += " requeue"
	}
	at := fmt.Sprintf("%s of tag %d on channel %d of link %d/%d", frame, w.Tag, w.Channel, w.Node, w.Link)
	d := c.deliveries[w.Tag]
	if d == nil {
		return at + ", where nothing was delivered under that tag"
	}
	if d.settled || w.Stray {
		return at + ", which was settled before"
	}
	d.settled = true
	back := frame == "NackedByClient requeue" && s.stopped[runOf(d.consumer)] // given back, not begun
	h := s.handled[deliveryID{d.consumer, w.Tag}]
	switch {
	case h == nil && !back:
		return fmt.Sprintf("%s (%s), whose handler had not returned", at, w.MessageID)
	case h == nil, settlements[h.Result] == frame:
		return ""
	case h.Result == Fail && back: // interrupted, when the drain time was over
		return ""
	}
	return fmt.Sprintf("%s (%s), whose handler had returned %q", at, w.MessageID, h.Result)
}
