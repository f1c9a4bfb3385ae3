package broker

import (
	"maps"
	"slices"
	"time"
)

// A pendingDeadLetter waits until a queue accepts it (dead-letter strategy at-least-once).
type pendingDeadLetter struct {
	m      *message
	reason string
	stored []*queue // queues that stored it
}

// deadLetter publishes a message that left the queue to the dead-letter exchange, if the queue has one.
func (q *queue) deadLetter(e *entry, reason string, failures int) {
	if q.dlx == nil {
		return
	}
	m := e.deadLettered(q.name, reason, *q.dlx, q.dlk, failures, q.b.now)
	if q.atLeastOnce {
		q.pending = append(q.pending, &pendingDeadLetter{m: m, reason: reason})
		q.scheduleDeadLetters()
		return
	}
	x := q.v.exchanges[*q.dlx]
	if x == nil {
		return
	}
	for _, to := range q.v.route(x, m) {
		switch {
		case reason != "rejected" && m.cycles(to.name):
		case to.quorum: // without at-least-once a full quorum queue accepts dead letters
			to.put(m)
		default:
			to.accept(m)
		}
	}
}

// deadLetterPending publishes pending dead letters. One is done when at least one queue is bound and all have accepted
// it. It is retried when routing changes or a full queue has room.
func (q *queue) deadLetterPending() {
	if !q.retrying {
		return
	}
	q.retrying = false
	q.pending = slices.DeleteFunc(q.pending, func(p *pendingDeadLetter) bool {
		x := q.v.exchanges[*q.dlx]
		if x == nil {
			return false
		}
		full := false
		for _, to := range q.v.route(x, p.m) {
			switch {
			case slices.Contains(p.stored, to) || p.reason != "rejected" && p.m.cycles(to.name):
			case to.accept(p.m):
				p.stored = append(p.stored, to)
			default:
				full = true
			}
		}
		return !full && len(p.stored) > 0
	})
	if len(q.pending) == 0 {
		delete(q.v.undelivered, q)
	}
}

func (q *queue) scheduleDeadLetters() {
	q.v.undelivered[q] = struct{}{}
	q.retrying = true
	q.touch()
}

// retryDeadLetters retries the pending dead letters of all queues.
func (v *vhost) retryDeadLetters() {
	for _, q := range sortedByName(maps.Keys(v.undelivered)) {
		q.scheduleDeadLetters()
	}
}

// delay schedules a delayed retry of a returned message if the queue has one configured.
func (q *queue) delay(e *entry, failure bool) bool {
	if failure && !q.retry.failed || !failure && !q.retry.returned {
		return false
	}
	wait := min(q.retry.least*int64(max(1, e.failures)), q.retry.most)
	e.at = q.b.now.Add(milliseconds(wait))
	i, _ := slices.BinarySearchFunc(q.delayed, e, func(a, b *entry) int {
		if n := a.at.Compare(b.at); n != 0 {
			return n
		}
		return int(a.seq) - int(b.seq)
	})
	q.delayed = slices.Insert(q.delayed, i, e)
	return true
}

// promote makes delayed messages ready when their delay has elapsed.
func (q *queue) promote() {
	for len(q.delayed) > 0 && !q.delayed[0].at.After(q.b.now) {
		e := q.delayed[0]
		q.delayed = q.delayed[1:]
		e.at = time.Time{}
		q.count(e, 1)
		q.returns.push(e)
	}
}
