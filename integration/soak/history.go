package soak

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"
)

// A History writes records to a file, one JSON object per line. Its methods are safe for concurrent use.
type History struct {
	began time.Time

	mu  sync.Mutex
	w   *bufio.Writer
	enc *json.Encoder
	err error // the first write error
}

// NewHistory returns a history that starts now and is written to w.
func NewHistory(w io.Writer) *History {
	h := &History{began: time.Now(), w: bufio.NewWriterSize(w, 1<<20)}
	h.enc = json.NewEncoder(h.w)
	return h
}

// At converts t to the history's clock.
func (h *History) At(t time.Time) int64 { return int64(t.Sub(h.began)) }

// Now returns the current time on the history's clock.
func (h *History) Now() int64 { return h.At(time.Now()) }

// Put writes r with the current time.
func (h *History) Put(r Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.T = h.Now() // under the lock, so that a cause precedes its effect in the file
	h.encode(r)
}

// PutAt writes r with the time t.
func (h *History) PutAt(t time.Time, r Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.T = h.At(t)
	h.encode(r)
}

func (h *History) encode(r Record) {
	if err := h.enc.Encode(r); err != nil && h.err == nil {
		h.err = err
	}
}

// Flush writes the buffered records and returns the first write error, if any.
func (h *History) Flush() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.err, h.w.Flush())
}

// disorder is the longest time by which a record may appear too late in the file. A proxy records a frame once it has
// forwarded the whole frame, and a peer that does not read delays that.
const disorder = 30 * time.Second

// Read returns the records of a history, ordered by time. It stops at the first error, such as a truncated line.
func Read(r io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		dec := json.NewDecoder(bufio.NewReaderSize(r, 1<<20))
		var late waiting
		released, line := int64(0), 0
		for {
			var rec Record
			err := dec.Decode(&rec)
			if err != nil && !errors.Is(err, io.EOF) {
				yield(Record{}, fmt.Errorf("soak: record %d: %w", line+1, err))
				return
			}
			if err == nil {
				line++
				if rec.T < released {
					yield(Record{}, fmt.Errorf("soak: record %d is out of order by more than %v", line, disorder))
					return
				}
				heap.Push(&late, numbered{rec, line})
			}
			for len(late) > 0 && (err != nil || late[0].T < rec.T-int64(disorder)) {
				next := heap.Pop(&late).(numbered)
				released = next.T
				if !yield(next.Record, nil) {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
}

// A numbered record carries its line number, which orders records with the same time.
type numbered struct {
	Record
	line int
}

// waiting is a heap of records, the oldest first.
type waiting []numbered

func (w waiting) Len() int { return len(w) }
func (w waiting) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(w[i].T, w[j].T), cmp.Compare(w[i].line, w[j].line)) < 0
}
func (w waiting) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w *waiting) Push(x any)   { *w = append(*w, x.(numbered)) }
func (w *waiting) Pop() any {
	last := len(*w) - 1
	x := (*w)[last]
	(*w)[last] = numbered{}
	*w = (*w)[:last]
	return x
}
