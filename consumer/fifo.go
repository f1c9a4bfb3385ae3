package consumer

// A fifo holds values, first in, first out, in memory that it uses again.
type fifo[T any] struct {
	items []T
	gone  int // as many at the beginning were taken
}

func (f *fifo[T]) len() int { return len(f.items) - f.gone }

// at returns the i-th of those waiting, to be changed in place until the next push.
func (f *fifo[T]) at(i int) *T { return &f.items[f.gone+i] }

func (f *fifo[T]) push(v T) {
	if len(f.items) == cap(f.items) && f.gone > len(f.items)/2 { // make room instead of growing
		n := copy(f.items, f.items[f.gone:])
		clear(f.items[n:])
		f.items, f.gone = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

func (f *fifo[T]) pop() T {
	v := *f.at(0)
	f.drop(1)
	return v
}

// drop takes the first n.
func (f *fifo[T]) drop(n int) {
	clear(f.items[f.gone : f.gone+n])
	f.gone += n
	if f.gone == len(f.items) {
		f.items, f.gone = f.items[:0], 0
	}
}

// all takes everything.
func (f *fifo[T]) all() []T {
	all := f.items[f.gone:]
	*f = fifo[T]{}
	return all
}
