package soak

import (
	"cmp"
	"slices"
)

// judgeSettlements reports what was found while the story was put together: what excuses a settlement is before it.
func (s *state) judgeSettlements(f *findings) {
	for _, x := range s.settles {
		f.add(falseSettled, "at %s %s", seconds(x.at), x.why)
	}
	for _, id := range s.handledTwice {
		f.add(unexpected, "delivery %d of consumer %s went to two handlers", id.tag, id.consumer)
	}
	for _, w := range s.protocolErrors {
		f.add(refused, "%s of link %d/%d: %d %s", w.Event, w.Node, w.Link, w.Code, w.Text)
	}
}

// judgeRepeats counts what was delivered again, and what came out of order, and looks for the reasons.
func (s *state) judgeRepeats(f *findings, r *Result) {
	repeated := 0 // messages that their producer sent again, and hops
	clean := s.cleanTags()
	for _, m := range s.order {
		if len(m.trace.attempts) > 1 {
			repeated++
		}
		repeated += m.trace.repeatedMoves(s.run.Retry.Queue)
		s.judgeDuplicates(f, r, m, clean)
	}
	held := 0
	for _, c := range s.run.Consumers {
		held += c.Prefetch
	}
	if most := len(s.faults)*held + repeated; r.Duplicates > most {
		f.add(duplicated, "%d duplicates after %d faults, with %d deliveries held at most and %d messages sent again", r.Duplicates, len(s.faults), held, repeated)
	}
	s.judgeOrder(f, r)
}

// clean returns the last subscriptions of the Runs that returned nil: nothing that was acknowledged there may come
// again.
func (s *state) cleanTags() map[string]bool {
	tags := map[string]bool{}
	for _, c := range s.calls {
		if c.v.What == ConsumerRun && c.v.Err == "" {
			tags[s.tags[c.v.Who]] = true
		}
	}
	return tags
}

// judgeDuplicates counts the deliveries of a message besides one that was processed, or given up, in the same queue.
func (s *state) judgeDuplicates(f *findings, r *Result, m *message, clean map[string]bool) {
	if m.trace.fresh > len(m.trace.attempts) {
		f.add(duplicated, "%s was delivered %d times without the mark of a redelivery, and sent %d times", m.ID, m.trace.fresh, len(m.trace.attempts))
	}
	if sent := m.trace.movesTo(s.run.Retry.Parked); m.trace.parked > sent {
		f.add(duplicated, "%s was delivered %d times from the parking queue without the mark of a redelivery, and sent there %d times", m.ID, m.trace.parked, sent)
	}
	done := map[string]*handling{} // by queue
	for _, h := range m.handled {
		from := s.consumerOf(h.Consumer)
		if before := done[from.Queue]; before != nil {
			r.Duplicates++
			if !s.explained(m, h) {
				f.add(duplicated, "%s, delivered again at %s", m.ID, seconds(h.Began))
			}
			if !from.Dead && clean[before.Consumer] && len(m.trace.attempts) == 1 && m.trace.repeatedMoves(s.run.Retry.Queue) == 0 && s.isRedelivery(before, h) {
				f.add(misreported, "%s was delivered again at %s, settled by consumer %s, whose Run returned nil", m.ID, seconds(h.Began), before.Consumer)
			}
		}
		if h.Result == OK || h.Result == Reject {
			done[from.Queue] = h
		}
	}
}

// cameBack reports whether a later delivery can be of what an earlier one left unsettled: the broker makes it once the
// channel of that is gone. What is delivered before is another copy of the message.
func (s *state) isRedelivery(before, h *handling) bool {
	was, is := s.delivered[deliveryID{before.Consumer, before.Tag}], s.delivered[deliveryID{h.Consumer, h.Tag}]
	return h.Redelivered && was != nil && is != nil && is.at > was.ch.ended
}

// explained reports whether there is a reason for a duplicate: the message was sent again, or marked as redelivered. The
// handler of its first delivery may have begun after that of the redelivery.
func (s *state) explained(m *message, h *handling) bool {
	from := s.consumerOf(h.Consumer)
	return len(s.faults) > 0 && (len(m.trace.attempts) > 1 || m.trace.repeatedMoves(s.run.Retry.Queue) > 0 ||
		slices.ContainsFunc(m.handled, func(other *handling) bool {
			return other.Redelivered && s.consumerOf(other.Consumer).Queue == from.Queue
		}) || from.Dead && s.mayRepeatDeadLetter(m, h.Began))
}

// passedAgain reports whether a node was away while the message was there: a dead letter is passed on at least once, so
// after an outage again.
func (s *state) mayRepeatDeadLetter(m *message, until int64) bool {
	return slices.ContainsFunc(s.faults, func(f *fault) bool { return len(f.Nodes) > 0 && f.from < until && f.to > m.at })
}

// judgeOrder looks at the sequences: each was published one by one, to a queue of which one consumer takes one at a
// time.
func (s *state) judgeOrder(f *findings, r *Result) {
	first := map[string][]*message{} // by sequence, those that were handled
	for _, m := range s.order {
		if m.Order != "" && len(m.handled) > 0 {
			first[m.Order] = append(first[m.Order], m)
		}
	}
	for _, ms := range first {
		slices.SortStableFunc(ms, func(a, b *message) int { return cmp.Compare(a.handled[0].Began, b.handled[0].Began) })
		last := ms[0]
		for _, m := range ms {
			if m.Seq < last.Seq {
				r.Inversions++
				if !m.handled[0].Redelivered && len(m.trace.attempts) < 2 {
					r.Disordered++
				}
				continue
			}
			last = m
		}
	}
	if r.Inversions > 0 && len(s.faults) == 0 {
		f.add(disordered, "%d messages, without a fault", r.Inversions)
	}
}
