package soak

import (
	"slices"
	"time"
)

// isTarget reports whether a routing key is the name of a wait queue, the parking queue or the retry queue itself. A
// message that was requeued and still cannot be moved is republished to the tail of the retry queue. Publishers use
// another key.
func (r *Retry) isTarget(key string) bool {
	return key != "" && (key == r.Parked || key == r.Queue || slices.ContainsFunc(r.Waits, func(w Wait) bool { return w.Queue == key }))
}

// isParking reports whether a consumer reads the parking queue.
func (r *Retry) isParking(c Consumer) bool { return c.Queue != "" && c.Queue == r.Parked }

// confirmedMove reports whether a failed delivery was moved: a copy that the same client published after the handler
// started was confirmed and not returned. Each copy counts for one delivery.
func (s *state) confirmedMove(client string, h *handling) bool {
	for _, a := range s.traceOf(h.MessageID).moves {
		if a.at >= h.Began && a.ch.link.client == client && a.acked && a.returned == 0 && !a.matched {
			a.matched = true
			return true
		}
	}
	return false
}

// judgeRetries compares the attempts and moves of failed messages with the policy.
func (s *state) judgeRetries(f *findings, r *Result) {
	for _, m := range s.order {
		if slices.ContainsFunc(m.tries, func(t timed[Try]) bool { return t.v.Attempt > 1 }) {
			r.Retried++
		}
		parked := false
		for _, h := range m.handled {
			if h.Stayed {
				r.Stayed++
			}
			if s.run.Retry.isParking(s.consumerOf(h.Consumer)) {
				parked = true
				judgeParked(f, m, h)
			}
		}
		if parked {
			r.Parked++
		}
		s.judgeTries(f, m)
		s.judgeMoves(f, m)
		if m.Route == toRetry {
			s.judgeCopies(f, m)
		}
	}
}

// judgeMoves checks that a message was not moved more often than it failed. It ignores moves whose confirm the consumer
// may not have read, because the consumer may repeat such a move.
func (s *state) judgeMoves(f *findings, m *message) {
	failed, confirmed := 0, 0
	for _, h := range m.handled {
		failed += h.Unmoved
		if h.Result == Moved {
			failed++
		}
	}
	for _, a := range m.trace.moves {
		if a.reached(slack) {
			confirmed++
		}
	}
	if confirmed > failed {
		f.add(unexpected, "%s was moved %d times, although only %d of its deliveries failed", m.ID, confirmed, failed)
	}
}

// judgeCopies checks that no copy of a message was lost. The retry queue and the parking queue must each acknowledge as
// many copies as were confirmed. Copies in wait queues count for the retry queue.
func (s *state) judgeCopies(f *findings, m *message) {
	confirmed, done := map[string]int{}, map[string]int{}
	for _, a := range slices.Concat(m.trace.attempts, m.trace.moves) {
		switch {
		case !a.acked || a.returned > 0:
		case a.key == s.run.Retry.Parked:
			confirmed[a.key]++
		default:
			confirmed[s.run.Retry.Queue]++
		}
	}
	for _, h := range m.handled {
		if d := s.delivered[deliveryID{h.Consumer, h.Tag}]; d != nil && d.settled && (h.Result == OK || h.Result == Moved) {
			done[s.consumerOf(h.Consumer).Queue]++
		}
	}
	for queue, n := range confirmed {
		if done[queue] < n {
			f.add(lost, "%s, confirmed %d times for queue %s but acknowledged there %d times", m.ID, n, queue, done[queue])
		}
	}
}

// maxAttempts returns the maximum number of attempts at a message.
func (m *message) maxAttempts() int {
	if m.Why != "" {
		return m.Fails
	}
	return m.Fails + 1
}

// judgeTries checks that a message has no attempt beyond its maximum, and that each attempt follows a failure of the
// previous one after its delay. A copy may have the same attempt twice only after a redelivery.
func (s *state) judgeTries(f *findings, m *message) {
	fresh := map[int]int{}
	for _, t := range m.tries {
		n, delay := t.v.Attempt, int64(0)
		if n > 1 && n-2 < len(s.run.Retry.Waits) {
			delay = s.run.Retry.Waits[n-2].Delay
		}
		if n == 2 && m.After > 0 {
			delay = m.After
		}
		switch {
		case n > m.maxAttempts():
			f.add(overtried, "attempt %d at %s, at %s, with a maximum of %d", n, m.ID, seconds(t.at), m.maxAttempts())
		case n < 1 || n > 1 && !m.failed(n-1, t.v.Began-delay+deadlineMargin):
			f.add(overtried, "attempt %d at %s, at %s, without a failure of the previous attempt at least %v earlier", n, m.ID, seconds(t.v.Began), time.Duration(delay))
		}
		if !t.v.Redelivered {
			fresh[n]++
		}
	}
	for n, times := range fresh {
		if sent := s.sentFor(m, n); times > sent && (n == 1 || !s.mayRepeatDeadLetter(m, m.tries[len(m.tries)-1].at)) {
			f.add(overtried, "attempt %d at %s was made %d times without a redelivery, although it was sent for it %d times", n, m.ID, times, sent)
		}
	}
}

// sentFor counts the publishes that may lead to the n-th attempt: the moves to its wait queue and to the retry queue.
// For an attempt after an in-process wait, it counts the publishes for the previous attempt.
func (s *state) sentFor(m *message, n int) int {
	for ; n > 1 && n-2 < len(s.run.Retry.Waits); n-- {
		if n == 2 && m.After > 0 { // through several wait queues
			return len(m.trace.moves) - m.trace.movesTo(s.run.Retry.Parked)
		}
		if queue := s.run.Retry.Waits[n-2].Queue; queue != "" {
			return m.trace.movesTo(queue) + m.trace.movesTo(s.run.Retry.Queue)
		}
	}
	return len(m.trace.attempts)
}

// failed reports whether an attempt with this number failed no later than by.
func (m *message) failed(attempt int, by int64) bool {
	return slices.ContainsFunc(m.tries, func(t timed[Try]) bool { return t.v.Attempt == attempt && t.v.Result == Fail && t.at <= by })
}

// judgeParked checks that a message was parked for the expected reason and after the expected number of failures.
func judgeParked(f *findings, m *message, h *handling) {
	switch {
	case m.Why == "":
		f.add(unexpected, "%s, parked at %s although attempt %d should succeed", m.ID, seconds(h.Began), m.maxAttempts())
	case h.Attempts != m.Fails || h.Why != m.Why:
		f.add(unexpected, "%s, parked at %s after %d attempts (%s), want %d (%s)", m.ID, seconds(h.Began), h.Attempts, h.Why, m.Fails, m.Why)
	case !m.failed(m.Fails, h.Began):
		f.add(unexpected, "%s, parked at %s although attempt %d had not failed", m.ID, seconds(h.Began), m.Fails)
	}
}
