package soak

import "slices"

// judgeOutcomes compares the reported outcomes of messages with their deliveries.
func (s *state) judgeOutcomes(f *findings, r *Result) {
	for _, m := range s.order {
		if len(m.handled) > 0 {
			r.Delivered++
		}
		if m.outcomes != 1 {
			f.add(unaccounted, "%s, published at %s, has %d outcomes", m.ID, seconds(m.at), m.outcomes)
			continue
		}
		r.Outcomes[m.outcome.What]++
		if m.outcome.Blocked {
			r.Blocked++
		}
		s.judgeOutcome(f, m)
		if m.is(Unconfirmed) {
			if !m.Hasty {
				r.Unknown++
			}
			if len(m.handled) > 0 {
				r.Recovered++
			}
		}
		for _, h := range m.handled {
			if h.Sum != m.Sum {
				f.add(corrupt, "%s, handled at %s", m.ID, seconds(h.at))
			}
			if h.MessageID != m.messageID() {
				f.add(unexpected, "%s was published with message id %q and handled with %q", m.ID, m.messageID(), h.MessageID)
			}
		}
	}
	r.Confirmed = r.Outcomes[Confirmed]
	if r.Seconds > 0 {
		r.PerSecond = float64(r.Confirmed) / r.Seconds
	}
	for _, h := range s.unpublished {
		f.add(unexpected, "%q was not published, and handled at %s", h.ID, seconds(h.at))
	}
	published := map[string]bool{}
	for _, m := range s.order {
		published[m.messageID()] = true
	}
	for id, t := range s.traces {
		if sent := slices.Concat(t.attempts, t.moves); len(sent) > 0 && !published[id] {
			f.add(unexpected, "message id %q on the wire at %s", id, seconds(sent[0].at))
		}
	}
	if most := len(s.faults) * s.run.MaxInFlight; r.Unknown > most {
		f.add(tooManyUnknown, "%d after %d faults, with at most %d messages in flight", r.Unknown, len(s.faults), s.run.MaxInFlight)
	}
	for _, q := range s.queues {
		if q.Ready+q.Unacked > 0 {
			f.add(unaccounted, "queue %s holds %d ready and %d unacknowledged messages after the run", q.Name, q.Ready, q.Unacked)
		}
	}
}

func (s *state) judgeOutcome(f *findings, m *message) {
	handled := len(m.handled) > 0
	switch m.outcome.What {
	case Confirmed:
		if !m.Doomed && !m.processed() {
			f.add(lost, "%s, confirmed at %s, %d times on the wire, handled %d times", m.ID, seconds(m.resolved), len(m.trace.attempts), len(m.handled))
		}
	case Unconfirmed: // a delivered message was stored
		if handled && !m.Doomed && !m.processed() {
			f.add(lost, "%s, reported as unconfirmed at %s, handled %d times", m.ID, seconds(m.resolved), len(m.handled))
		}
	case NotPublished:
		if handled || len(m.trace.attempts) > 0 {
			f.add(phantom, "%s, reported as not published at %s (%s), %d times on the wire, handled %d times",
				m.ID, seconds(m.resolved), m.outcome.Err, len(m.trace.attempts), len(m.handled))
		}
	case Returned:
		if handled {
			f.add(phantom, "%s, reported as returned at %s, handled at %s", m.ID, seconds(m.resolved), seconds(m.handled[0].at))
		}
	case Nacked: // a route has only one queue; a queue may deliver messages before a fault deletes it
		if handled && !m.Doomed {
			f.add(phantom, "%s, reported as nacked at %s, handled at %s", m.ID, seconds(m.resolved), seconds(m.handled[0].at))
		}
	}
}

// judgeReports compares the reported outcomes with the wire. An outcome needs the broker's answer, an answer must be
// reported as the outcome, and only an attempt without an answer may be repeated.
func (s *state) judgeReports(f *findings) {
	for _, m := range s.order {
		if m.outcomes != 1 {
			continue
		}
		if !s.proven(m) {
			f.add(misreported, "%s, reported as %s at %s, without a matching answer on the wire", m.ID, m.outcome.What, seconds(m.resolved))
		}
		if m.is(Unconfirmed) && !s.excused(m) {
			f.add(misreported, "%s, reported as unconfirmed at %s, although its ctx had not ended and its channel was open: %s", m.ID, seconds(m.resolved), m.outcome.Err)
		}
		for i, a := range m.trace.attempts {
			s.judgeAnswer(f, m, i)
			if i > 0 {
				s.judgeRepeat(f, m, m.trace.attempts[i-1], a)
			}
		}
		if m.Once && len(m.trace.attempts) > 1 {
			f.add(misreported, "%s was sent %d times, although its producer does not resend", m.ID, len(m.trace.attempts))
		}
	}
}

// proven reports whether an answer of the broker on the wire supports the reported outcome.
func (s *state) proven(m *message) bool {
	for _, a := range m.trace.attempts {
		answered := a.answered > 0 && a.answered < m.resolved
		switch {
		case m.is(Confirmed) && answered && a.acked && a.returned == 0,
			m.is(Nacked) && answered && !a.acked,
			m.is(Returned) && a.returned > 0 && a.returned < m.resolved:
			return true
		}
	}
	return m.is(Unconfirmed) || m.is(NotPublished)
}

// excused reports whether an unconfirmed outcome had a reason. A producer that resends continues until the ctx ends, or
// until the message is returned or nacked after an attempt of unknown outcome. A producer that does not resend stops
// when the channel closes.
func (s *state) excused(m *message) bool {
	if m.resolved > m.Deadline-deadlineMargin {
		return true
	}
	for i, a := range m.trace.attempts {
		if (a.returned > 0 || a.answered > 0 && !a.acked) && (i > 0 || s.hiddenAttempt(m, a.at)) {
			return true
		}
	}
	for _, a := range m.trace.attempts {
		if m.resolved > a.at+s.run.ConfirmTimeout-slack && s.run.ConfirmTimeout > 0 {
			return true
		}
	}
	if !m.Once {
		return false
	}
	for _, a := range m.trace.attempts {
		if a.ch.ended < m.resolved+slack {
			return true
		}
	}
	return s.hiddenAttempt(m, m.resolved+slack)
}

// hiddenAttempt reports whether there may have been an attempt that no proxy forwarded, because the client lost a link
// after the publish and before until. The client may notice a loss with a short delay.
func (s *state) hiddenAttempt(m *message, until int64) bool {
	between := func(at int64) bool { return at > m.at-tolerance && at < until }
	return slices.ContainsFunc(s.byClient[m.Client], func(l *link) bool { return between(l.lost) || between(l.clientClosed) })
}

// judgeAnswer checks that an answer that the client must have read was reported as the outcome, and in time. After an
// attempt without an answer, a return or a nack leaves the outcome unknown.
func (s *state) judgeAnswer(f *findings, m *message, i int) {
	a := m.trace.attempts[i]
	if !a.reached(slack) || m.resolved < a.answered {
		return
	}
	want := Confirmed
	switch {
	case a.acked && a.returned > 0:
		want = Returned
	case !a.acked:
		want = Nacked
	}
	if want != Confirmed && i > 0 {
		want = Unconfirmed
	}
	doubt := m.is(Unconfirmed) && (m.resolved > m.Deadline-deadlineMargin || want != Confirmed && s.hiddenAttempt(m, a.at))
	switch {
	case !m.Batch && m.resolved > a.answered+slack+s.timerDelay(a.answered, m.resolved):
		f.add(misreported, "%s was answered at %s on an open channel, and reported as %s only at %s",
			m.ID, seconds(a.answered), m.outcome.What, seconds(m.resolved))
	case !m.is(want) && !doubt:
		f.add(misreported, "%s was reported as %s at %s, but the answer at %s to attempt %d means %s",
			m.ID, m.outcome.What, seconds(m.resolved), seconds(a.answered), i+1, want)
	}
}

// judgeRepeat checks that a message was sent again only after the previous attempt could no longer be answered.
func (s *state) judgeRepeat(f *findings, m *message, before, a *attempt) {
	switch {
	case before.ch == a.ch:
		f.add(misreported, "%s was sent twice on one channel, at %s and %s", m.ID, seconds(before.at), seconds(a.at))
	case before.reached(slack) && before.answered+slack < a.at:
		f.add(misreported, "%s was sent again at %s, although answered at %s", m.ID, seconds(a.at), seconds(before.answered))
	case before.ch.published > a.at:
		f.add(misreported, "%s was sent again at %s, while the client used the old channel until %s", m.ID, seconds(a.at), seconds(before.ch.published))
	}
}
