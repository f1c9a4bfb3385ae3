package soak

import (
	"slices"
	"time"
)

// leadsTo reports whether a routing key is that of a wait or parking queue, or of the queue itself, to the end of which goes what was
// given back and cannot be moved. Publishers use another key.
func (r *Retry) isTarget(key string) bool {
	return key != "" && (key == r.Parked || key == r.Queue || slices.ContainsFunc(r.Waits, func(w Wait) bool { return w.Queue == key }))
}

// parks reports whether a consumer's queue is the parking queue.
func (r *Retry) isParking(c Consumer) bool { return c.Queue != "" && c.Queue == r.Parked }

// moved reports whether a failed delivery was in another queue for sure: between its handler's beginning and now the
// same client was told that a copy is confirmed, and routed. Each copy stands for one delivery.
func (s *state) confirmedMove(client string, h *handling) bool {
	for _, a := range s.traceOf(h.MessageID).moves {
		if a.at >= h.Began && a.ch.link.client == client && a.acked && a.returned == 0 && !a.matched {
			a.matched = true
			return true
		}
	}
	return false
}

// judgeRetries holds what became of failed messages against the plan.
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

// judgeHops checks that a message was not taken to other queues more often than it failed. Who did not hear that it was
// may do so again, or take it to the end of its own.
func (s *state) judgeMoves(f *findings, m *message) {
	failed, heard := 0, 0
	for _, h := range m.handled {
		failed += h.Unmoved
		if h.Result == Moved {
			failed++
		}
	}
	for _, a := range m.trace.moves {
		if a.reached(slack) {
			heard++
		}
	}
	if heard > failed {
		f.add(unexpected, "%s went to wait and parking queues %d times, and %d of its deliveries failed", m.ID, heard, failed)
	}
}

// judgeCopies checks that no copy got lost where another one did not: as many as were confirmed, in the queue or on
// their way to it, were acknowledged there.
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
			f.add(lost, "%s, confirmed %d times for queue %s, and acknowledged there %d times", m.ID, n, queue, done[queue])
		}
	}
}

// most is how many attempts a message may have.
func (m *message) maxAttempts() int {
	if m.Why != "" {
		return m.Fails
	}
	return m.Fails + 1
}

// judgeTries checks that the attempts at a message end when it is over, and that each is counted and has its delay: it
// comes so long after a failure of the one before, and no copy of the message has it twice unless RabbitMQ delivers it
// again.
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
			f.add(overtried, "attempt %d at %s, at %s, of %d", n, m.ID, seconds(t.at), m.maxAttempts())
		case n < 1 || n > 1 && !m.failed(n-1, t.v.Began-delay+deadlineMargin):
			f.add(overtried, "attempt %d at %s, at %s, without a failure of the one before, %v earlier", n, m.ID, seconds(t.v.Began), time.Duration(delay))
		}
		if !t.v.Redelivered {
			fresh[n]++
		}
	}
	for n, times := range fresh {
		if sent := s.sentFor(m, n); times > sent && (n == 1 || !s.mayRepeatDeadLetter(m, m.tries[len(m.tries)-1].at)) {
			f.add(overtried, "attempt %d at %s was made %d times without a redelivery, and it was sent for it %d times", n, m.ID, times, sent)
		}
	}
}

// sentFor counts how often a message was sent to be tried for the n-th time, or for an attempt from which that one
// comes without leaving the process.
func (s *state) sentFor(m *message, n int) int {
	for ; n > 1 && n-2 < len(s.run.Retry.Waits); n-- {
		if n == 2 && m.After > 0 { // in one wait queue after another
			return len(m.trace.moves) - m.trace.movesTo(s.run.Retry.Parked)
		}
		if queue := s.run.Retry.Waits[n-2].Queue; queue != "" {
			return m.trace.movesTo(queue) + m.trace.movesTo(s.run.Retry.Queue)
		}
	}
	return len(m.trace.attempts)
}

// failed reports whether an attempt of a number had failed by then.
func (m *message) failed(attempt int, by int64) bool {
	return slices.ContainsFunc(m.tries, func(t timed[Try]) bool { return t.v.Attempt == attempt && t.v.Result == Fail && t.at <= by })
}

// judgeParked checks that a message was parked for its reason, after as many failures as it has.
func judgeParked(f *findings, m *message, h *handling) {
	switch {
	case m.Why == "":
		f.add(unexpected, "%s, parked at %s, although attempt %d was to succeed", m.ID, seconds(h.Began), m.maxAttempts())
	case h.Attempts != m.Fails || h.Why != m.Why:
		f.add(unexpected, "%s, parked at %s after %d attempts (%s), and was to be after %d (%s)", m.ID, seconds(h.Began), h.Attempts, h.Why, m.Fails, m.Why)
	case !m.failed(m.Fails, h.Began):
		f.add(unexpected, "%s, parked at %s, although attempt %d had not failed", m.ID, seconds(h.Began), m.Fails)
	}
}
