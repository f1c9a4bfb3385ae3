package soak

import "slices"

// judgeFates holds what publishers were told against what became of their messages.
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
		f.add(unexpected, "%q, handled at %s", h.ID, seconds(h.at))
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
		f.add(tooManyUnknown, "%d after %d faults, with %d in flight at most", r.Unknown, len(s.faults), s.run.MaxInFlight)
	}
	for _, q := range s.queues {
		if q.Ready+q.Unacked > 0 {
			f.add(unaccounted, "queue %s holds %d messages and %d unsettled ones at the end", q.Name, q.Ready, q.Unacked)
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
	case Unconfirmed: // what was delivered was stored
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
	case Nacked: // every route leads to one queue; one that is deleted may have delivered before
		if handled && !m.Doomed {
			f.add(phantom, "%s, reported as nacked at %s, handled at %s", m.ID, seconds(m.resolved), seconds(m.handled[0].at))
		}
	}
}

// judgeReports holds the same against what went over the wire: no outcome without the broker's answer, no answer
// without its outcome, and nothing sent again but what had none.
func (s *state) judgeReports(f *findings) {
	for _, m := range s.order {
		if m.outcomes != 1 {
			continue
		}
		if !s.proven(m) {
			f.add(misreported, "%s, reported as %s at %s, which nothing on the wire says", m.ID, m.outcome.What, seconds(m.resolved))
		}
		if m.is(Unconfirmed) && !s.excused(m) {
			f.add(misreported, "%s, reported as unconfirmed at %s, although neither its ctx had ended nor its channel: %s", m.ID, seconds(m.resolved), m.outcome.Err)
		}
		for i, a := range m.trace.attempts {
			s.judgeAnswer(f, m, i)
			if i > 0 {
				s.judgeRepeat(f, m, m.trace.attempts[i-1], a)
			}
		}
		if m.Once && len(m.trace.attempts) > 1 {
			f.add(misreported, "%s was to be sent once, and was %d times", m.ID, len(m.trace.attempts))
		}
	}
}

// proven reports whether the broker has said on the wire what the publisher was told.
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

// excused reports whether the outcome of an unconfirmed message had a reason to be unknown. A producer that sends again
// goes on until the ctx ends, or until the message is returned or nacked after an attempt of unknown outcome; one that
// does not gives up with the channel.
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

// hidden reports whether an attempt may have been made that no proxy handed on: a link of the client was lost, or
// noticed to be, between the publishing and a later moment. It may take the client a moment to learn of it.
func (s *state) hiddenAttempt(m *message, until int64) bool {
	between := func(at int64) bool { return at > m.at-tolerance && at < until }
	return slices.ContainsFunc(s.byClient[m.Client], func(l *link) bool { return between(l.lost) || between(l.clientClosed) })
}

// judgeAnswer checks that the publisher was told of the answer to an attempt that the client must have read, and in
// time. After an attempt that ended without an answer only a confirm is an answer.
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
		f.add(misreported, "%s was answered at %s on a channel that stood, and reported as %s only at %s",
			m.ID, seconds(a.answered), m.outcome.What, seconds(m.resolved))
	case !m.is(want) && !doubt:
		f.add(misreported, "%s was reported as %s at %s: the answer on the wire, at %s to attempt %d, makes it %s",
			m.ID, m.outcome.What, seconds(m.resolved), seconds(a.answered), i+1, want)
	}
}

// judgeRepeat checks that a message was sent again only because nothing could be heard of the attempt before.
func (s *state) judgeRepeat(f *findings, m *message, before, a *attempt) {
	switch {
	case before.ch == a.ch:
		f.add(misreported, "%s was sent twice on one channel, at %s and %s", m.ID, seconds(before.at), seconds(a.at))
	case before.reached(slack) && before.answered+slack < a.at:
		f.add(misreported, "%s was sent again at %s, although answered at %s", m.ID, seconds(a.at), seconds(before.answered))
	case before.ch.published > a.at:
		f.add(misreported, "%s was sent again at %s, while its channel was used until %s", m.ID, seconds(a.at), seconds(before.ch.published))
	}
}
