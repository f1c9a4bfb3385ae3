package broker

import (
	"container/heap"
	"time"
)

// A clock runs in real time or is moved manually. Timers are kept in one heap. Broker.mu guards it; due is called
// without.
type clock struct {
	stopped bool
	start   time.Time
	ahead   time.Duration
	heap    timers
	timer   *time.Timer // nil while no timer waits for real time
	armed   time.Time   // when timer fires
	due     func()
}

// A timer calls run once, with Broker.mu held. It can be set again.
type timer struct {
	at    time.Time
	seq   uint64
	index int // position in the heap plus one, zero while not set
	run   func()
}

func (c *clock) init(stopped bool, due func()) {
	c.stopped, c.start, c.due = stopped, time.Now(), due
}

func (c *clock) now() time.Time {
	if c.stopped {
		return c.start.Add(c.ahead)
	}
	return time.Now().Add(c.ahead)
}

// set makes a timer fire at a time and replaces its earlier time.
func (c *clock) set(t *timer, at time.Time) {
	if t.index > 0 && t.at.Equal(at) {
		return
	}
	c.unset(t)
	t.at = at
	c.heap.count++
	t.seq = c.heap.count
	heap.Push(&c.heap, t)
}

func (c *clock) unset(t *timer) {
	if t.index > 0 {
		heap.Remove(&c.heap, t.index-1)
	}
}

// run runs the timers that are due.
func (c *clock) run(now time.Time) {
	for len(c.heap.list) > 0 && !c.heap.list[0].at.After(now) {
		heap.Pop(&c.heap).(*timer).run()
	}
}

// arm schedules due for the earliest timer.
func (c *clock) arm() {
	if c.stopped || len(c.heap.list) == 0 {
		return
	}
	at := c.heap.list[0].at.Add(-c.ahead)
	switch {
	case c.timer == nil:
		c.timer = time.AfterFunc(time.Until(at), c.due)
	case !at.Equal(c.armed):
		c.timer.Reset(time.Until(at))
	}
	c.armed = at
}

func (c *clock) stop() {
	c.heap.list = nil
	if c.timer != nil {
		c.timer.Stop()
	}
}

// timers implements heap.Interface.
type timers struct {
	list  []*timer
	count uint64
}

func (h *timers) Len() int { return len(h.list) }

func (h *timers) Less(i, j int) bool {
	a, b := h.list[i], h.list[j]
	if a.at.Equal(b.at) {
		return a.seq < b.seq
	}
	return a.at.Before(b.at)
}

func (h *timers) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].index, h.list[j].index = i+1, j+1
}

func (h *timers) Push(x any) {
	t := x.(*timer)
	h.list = append(h.list, t)
	t.index = len(h.list)
}

func (h *timers) Pop() any {
	n := len(h.list) - 1
	t := h.list[n]
	h.list[n] = nil
	h.list = h.list[:n]
	t.index = 0
	return t
}
