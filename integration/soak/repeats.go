package soak

import (
	"cmp"
	"slices"
)

// judgeSettlements reports the false settlements that replay found. Every record that can justify a settlement precedes
// it, so replay can check it at once.
func (s *state) judgeSettlements(f *findings) {
	for _, x := range s.settles {
		f.add(falseSettled, "at %s %s", seconds(x.at), x.why)
	}
	for _, id := range s.handledTwice {
		f.add(unexpected, "delivery %d of consumer %s was passed to two handlers", id.tag, id.consumer)
	}
	for _, w := range s.protocolErrors {
		f.add(refused, "%s of link %d/%d: %d %s", w.Event, w.Node, w.Link, w.Code, w.Text)
	}
}

// judgeRepeats counts repeated and unordered deliveries and reports the ones without a reason.
func (s *state) judgeRepeats(f *findings, r *Result) {
	repeated := 0 // resent messages and repeated moves
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
		f.add(duplicated, "%d duplicates after %d faults, with at most %d unacknowledged deliveries and %d messages sent again", r.Duplicates, len(s.faults), held, repeated)
	}
	s.judgeOrder(f, r)
}

// cleanTags returns the last consumer tags of the Runs that returned nil. Deliveries that they acknowledged must not be
// redelivered.
func (s *state) cleanTags() map[string]bool {
	tags := map[string]bool{}
	for _, c := range s.calls {
		if c.v.What == ConsumerRun && c.v.Err == "" {
			tags[s.tags[c.v.Who]] = true
		}
	}
	return tags
}

// judgeDuplicates counts the deliveries of a message that follow a processed or rejected delivery from the same queue.
func (s *state) judgeDuplicates(f *findings, r *Result, m *message, clean map[string]bool) {
	if m.trace.fresh > len(m.trace.attempts) {
		f.add(duplicated, "%s was delivered %d times without the redelivered flag, and sent %d times", m.ID, m.trace.fresh, len(m.trace.attempts))
	}
	if sent := m.trace.movesTo(s.run.Retry.Parked); m.trace.parked > sent {
		f.add(duplicated, "%s was delivered %d times from the parking queue without the redelivered flag, and sent there %d times", m.ID, m.trace.parked, sent)
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
				f.add(misreported, "%s was delivered again at %s after consumer %s had settled it, whose Run returned nil", m.ID, seconds(h.Began), before.Consumer)
			}
		}
		if h.Result == OK || h.Result == Reject {
			done[from.Queue] = h
		}
	}
}

// isRedelivery reports whether h can be a redelivery of before. The broker redelivers an unsettled message only after
// the channel has closed. An earlier delivery is another copy of the message.
func (s *state) isRedelivery(before, h *handling) bool {
	was, is := s.delivered[deliveryID{before.Consumer, before.Tag}], s.delivered[deliveryID{h.Consumer, h.Tag}]
	return h.Redelivered && was != nil && is != nil && is.at > was.ch.ended
}

// explained reports whether a duplicate has a reason: the message was sent again, or one of its deliveries has the
// redelivered flag. The handler of the first delivery may start after the handler of the redelivery, so any delivery
// with the flag counts.
func (s *state) explained(m *message, h *handling) bool {
	from := s.consumerOf(h.Consumer)
	return len(s.faults) > 0 && (len(m.trace.attempts) > 1 || m.trace.repeatedMoves(s.run.Retry.Queue) > 0 ||
		slices.ContainsFunc(m.handled, func(other *handling) bool {
			return other.Redelivered && s.consumerOf(other.Consumer).Queue == from.Queue
		}) || from.Dead && s.mayRepeatDeadLetter(m, h.Began))
}

// mayRepeatDeadLetter reports whether a node was unavailable after the message was published and before until. RabbitMQ
// dead-letters at least once and may repeat a dead letter after an outage.
func (s *state) mayRepeatDeadLetter(m *message, until int64) bool {
	return slices.ContainsFunc(s.faults, func(f *fault) bool { return len(f.Nodes) > 0 && f.from < until && f.to > m.at })
}

// judgeOrder checks the sequences. The messages of a sequence are published one at a time, and the only consumer of
// their queue handles them one at a time.
func (s *state) judgeOrder(f *findings, r *Result) {
	first := map[string][]*message{} // by sequence: the handled messages
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
		f.add(disordered, "%d messages without a fault", r.Inversions)
	}
}
