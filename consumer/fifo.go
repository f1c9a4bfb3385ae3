package consumer

// A fifo is a first-in, first-out queue that reuses its memory.
type fifo[T any] struct {
	items []T
	head  int // the index of the first value
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }

// at returns a pointer to the i-th value, valid until the next push.
func (f *fifo[T]) at(i int) *T { return &f.items[f.head+i] }

func (f *fifo[T]) push(v T) {
	if len(f.items) == cap(f.items) && f.head > len(f.items)/2 { // move the values instead of growing
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

func (f *fifo[T]) pop() T {
	v := *f.at(0)
	f.drop(1)
	return v
}

// drop removes the first n values.
func (f *fifo[T]) drop(n int) {
	clear(f.items[f.head : f.head+n])
	f.head += n
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
}

// all removes and returns all values.
func (f *fifo[T]) all() []T {
	all := f.items[f.head:]
	*f = fifo[T]{}
	return all
}
