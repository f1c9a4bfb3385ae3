package broker

import (
	"maps"
	"slices"
	"time"
)

// A pendingDeath waits, by the strategy at-least-once, until it can be dead-lettered.
type pendingDeath struct {
	m      *message
	reason string
	taken  []*queue // those that have it already
}

// deadLetter sends on a message that left the queue, if the queue says where to.
func (q *queue) deadLetter(e *entry, reason string, failures int) {
	if q.dlx == nil {
		return
	}
	m := e.died(q.name, reason, *q.dlx, q.dlk, failures, q.b.now)
	if q.atLeastOnce {
		q.pending = append(q.pending, &pendingDeath{m: m, reason: reason})
		q.retrySoon()
		return
	}
	x := q.v.exchanges[*q.dlx]
	if x == nil {
		return
	}
	for _, to := range q.v.route(x, m) {
		switch {
		case reason != "rejected" && m.cycles(to.name):
		case to.quorum: // it rejects only what its publisher waits for
			to.put(m)
		default:
			to.accept(m)
		}
	}
}

// retryDeaths dead-letters what waits for it, as far as there are queues and all of them take it. It tries again when
// there is another way, or room in a queue that was full.
func (q *queue) retryDeaths() {
	if !q.retrying {
		return
	}
	q.retrying = false
	q.pending = slices.DeleteFunc(q.pending, func(p *pendingDeath) bool {
		x := q.v.exchanges[*q.dlx]
		if x == nil {
			return false
		}
		full := false
		for _, to := range q.v.route(x, p.m) {
			switch {
			case slices.Contains(p.taken, to) || p.reason != "rejected" && p.m.cycles(to.name):
			case to.accept(p.m):
				p.taken = append(p.taken, to)
			default:
				full = true
			}
		}
		return !full && len(p.taken) > 0
	})
	if len(q.pending) == 0 {
		delete(q.v.waiting, q)
	}
}

func (q *queue) retrySoon() {
	q.v.waiting[q] = struct{}{}
	q.retrying = true
	q.touch()
}

// rerouted has queues look whether what they could not dead-letter has a way now.
func (v *vhost) rerouted() {
	for _, q := range sortedByName(maps.Keys(v.waiting)) {
		q.retrySoon()
	}
}

// delay puts a message aside, if the queue is to do that.
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

// promote makes ready what was delayed long enough.
func (q *queue) promote() {
	for len(q.delayed) > 0 && !q.delayed[0].at.After(q.b.now) {
		e := q.delayed[0]
		q.delayed = q.delayed[1:]
		e.at = time.Time{}
		q.count(e, 1)
		q.returns.push(e)
	}
}
