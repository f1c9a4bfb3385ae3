package soak

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
)

// replay reconstructs the state from the records of a run.
func replay(records iter.Seq2[Record, error]) (*state, error) {
	s := &state{
		messages:  map[string]*message{},
		traces:    map[string]*trace{},
		links:     map[linkID]*link{},
		byClient:  map[string][]*link{},
		byAddr:    map[string]*link{},
		delivered: map[deliveryID]*delivery{},
		handled:   map[deliveryID]*handling{},
		stopped:   map[string]bool{},
		tags:      map[string]string{},
		answers:   map[string][]int64{},
		arrivals:  map[string][]int64{},
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
				return nil, fmt.Errorf("soak: outcome of %q, which was not published", r.Outcome.ID)
			}
			m.outcome, m.resolved = r.Outcome, r.T
			m.outcomes++
		case r.Handled != nil:
			s.addHandled(&handling{*r.Handled, r.T})
		case r.Try != nil:
			if m := s.messages[r.Try.ID]; m != nil { // without a message, the Handled record reports it
				m.tries = append(m.tries, timed[Try]{r.T, *r.Try})
			}
		case r.Stop != nil:
			s.stopped[r.Stop.Run] = true
		case r.Call != nil:
			s.calls = append(s.calls, timed[Call]{r.T, *r.Call})
		case r.Closed != nil:
			if l := s.byAddr[r.Closed.Addr]; l != nil {
				l.clientClosed = r.T
				l.lose(r.T)
			}
		case r.Wire != nil:
			s.addWire(r.T, r.Wire)
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

func (s *state) addHandled(h *handling) {
	id := deliveryID{h.Consumer, h.Tag}
	if s.handled[id] != nil {
		s.handledTwice = append(s.handledTwice, id)
	}
	s.handled[id] = h
	if m := s.messages[h.ID]; m != nil {
		m.handled = append(m.handled, h)
		return
	}
	s.unpublished = append(s.unpublished, h)
}

// addWire adds an event that a proxy recorded.
func (s *state) addWire(at int64, w *Wire) {
	l := s.linkOf(at, w)
	c := l.channels[w.Channel]
	if c == nil {
		c = l.newChannel(w.Channel)
	}
	switch w.Event {
	case "LinkOpened":
		s.byAddr[w.Addr] = l
	case "LinkClosed":
		l.lose(at)
	case "ConnectionClosed":
		l.end(at)
		if w.FromBroker && w.Code > 500 && w.Code < 530 { // protocol errors
			s.protocolErrors = append(s.protocolErrors, w)
		}
	case "ChannelOpened":
		l.newChannel(w.Channel)
	case "ChannelClosed":
		c.end(at)
		if w.FromBroker && w.Code == 406 {
			s.protocolErrors = append(s.protocolErrors, w)
		}
	case "Published":
		at = min(at, l.lost) // the proxy may forward it after the client has closed the socket
		l.publishes, c.published = true, at
		a := &attempt{at: at, ch: c, key: w.Key}
		c.unanswered[w.Tag] = a
		t := s.traceOf(w.MessageID)
		if s.run.Retry.isTarget(w.Key) {
			t.moves = append(t.moves, a)
		} else {
			t.attempts = append(t.attempts, a)
		}
	case "Returned":
		t := s.traceOf(w.MessageID)
		for _, a := range slices.Concat(t.attempts, t.moves) {
			if a.ch == c && a.key == w.Key {
				a.returned = at
			}
		}
	case "Confirmed", "Nacked":
		if a := c.unanswered[w.Tag]; a != nil {
			delete(c.unanswered, w.Tag)
			a.answered, a.acked = at, w.Event == "Confirmed"
		}
		if l.closed > at { // a frame that arrives with the close or later does not prove recovery
			s.answers[l.client] = append(s.answers[l.client], at)
		}
	case "Subscribed":
		l.consumes = true
		s.tags[runOf(w.Consumer)] = w.Consumer
	case "Delivered":
		d := &delivery{at: at, ch: c, consumer: w.Consumer}
		c.deliveries[w.Tag], s.delivered[deliveryID{w.Consumer, w.Tag}] = d, d
		if l.closed > at {
			s.arrivals[l.client] = append(s.arrivals[l.client], at)
		}
		switch from := s.consumerOf(w.Consumer); {
		case w.Redelivered, from.Dead:
		case s.run.Retry.isParking(from):
			s.traceOf(w.MessageID).parked++
		default:
			s.traceOf(w.MessageID).fresh++
		}
	case "Acked", "Rejected", "DeliveryNacked":
		if why := s.wrongSettlement(c, w); why != "" {
			s.settles = append(s.settles, falseSettle{at, why})
		}
	}
}

func (s *state) linkOf(at int64, w *Wire) *link {
	id := linkID{w.Node, w.Link}
	l := s.links[id]
	if l == nil {
		l = &link{id: id, opened: at, closed: never, lost: never, clientClosed: never, channels: map[uint16]*channel{}}
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

func (s *state) traceOf(messageID string) *trace {
	t := s.traces[messageID]
	if t == nil {
		t = &trace{}
		s.traces[messageID] = t
	}
	return t
}
