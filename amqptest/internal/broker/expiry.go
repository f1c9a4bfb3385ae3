package broker

import "time"

// expire dead-letters expired messages at the heads. A message behind another one expires only when it reaches the
// head. A classic queue has one head, a quorum queue one for each priority.
func (q *queue) expire(over func(*entry) bool) {
	for i := -1; i < len(q.bands); i++ {
		l := q.list(i)
		e := l.peek()
		for ; e != nil && !e.expires.IsZero() && over(e); e = l.peek() {
			q.pop(l)
			q.deadLetter(e, "expired", e.failures)
		}
		if e != nil && !q.quorum {
			return
		}
	}
}

func (q *queue) expired(e *entry) bool { return !e.expires.After(q.b.now) }

// overdue is like expired, except that a new message with a TTL of 0 is first offered to consumers.
func (q *queue) overdue(e *entry) bool {
	return e.expires.Before(q.b.now) || q.expired(e) && (e.redelivered || shorter(e.ttl, q.ttl) > 0)
}

// schedule sets the timer for the next expiry or delayed retry.
func (q *queue) schedule() {
	var at time.Time
	consider := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for i := -1; i < len(q.bands); i++ {
		if e := q.list(i).peek(); e != nil {
			consider(e.expires)
			if !q.quorum {
				break
			}
		}
	}
	if len(q.delayed) > 0 {
		consider(q.delayed[0].at)
	}
	if at.IsZero() {
		q.b.clock.unset(&q.due)
		return
	}
	q.b.clock.set(&q.due, at)
}

func shorter(a, b int64) int64 {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
