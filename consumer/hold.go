package consumer

import (
	"container/heap"
	"time"
)

// A held delivery waits for its settlement. It occupies no worker, but one place of the prefetch.
type held struct {
	due time.Time
	tag uint64
	how settlement
}

// waiting contains the held deliveries, ordered by due time.
type waiting struct{ heap heldHeap }

func (w *waiting) add(h held) { heap.Push(&w.heap, h) }

// next returns the due time of the first delivery.
func (w *waiting) next() (time.Time, bool) {
	if len(w.heap) == 0 {
		return time.Time{}, false
	}
	return w.heap[0].due, true
}

// take removes and returns a delivery that is due at now.
func (w *waiting) take(now time.Time) (held, bool) {
	if len(w.heap) == 0 || w.heap[0].due.After(now) {
		return held{}, false
	}
	return heap.Pop(&w.heap).(held), true
}

// all removes and returns all deliveries.
func (w *waiting) all() []held {
	all := w.heap
	w.heap = nil
	return all
}

type heldHeap []held

func (h heldHeap) Len() int           { return len(h) }
func (h heldHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h heldHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heldHeap) Push(x any)        { *h = append(*h, x.(held)) }
func (h *heldHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = held{}
	*h = (*h)[:last]
	return x
}
