package consumer

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Batch returns a Handler that gathers deliveries and has f work on up to size of them at once,
// at the latest when wait has passed since the first of them came: for databases that take many
// rows as fast as one. f returns an outcome for each delivery, in their order, as a Handler does:
// nil acknowledges it, [Reject], [Requeue] and other errors are as for one alone. A nil slice stands
// for nil for all. If f panics, or returns another number of outcomes, all deliveries have failed.
//
// Each delivery of a batch holds a worker until the batch is done. Config.Workers and Prefetch must
// be size at least, or no batch ever fills and each takes all of wait; twice as many let one batch
// gather while another one is worked on. f's ctx is that of the batch's first delivery: a Timeout
// around it bounds gathering and work together. When Run is to end, what was gathered is worked on
// at once. Deliveries of the same Config.Key are never in one batch. The Handler is for one Consumer.
//
// Batch panics if size or wait is not positive, or f is nil.
func Batch(size int, wait time.Duration, f func(ctx context.Context, ds []*Delivery) []error) Handler {
	if size < 1 || wait <= 0 || f == nil {
		panic(fmt.Sprintf("consumer: Batch of size %d, wait %v: both must be positive, and the function not nil", size, wait))
	}
	b := &batcher{size: size, wait: wait, f: f}
	return b.handle
}

type batcher struct {
	size int
	wait time.Duration
	f    func(context.Context, []*Delivery) []error

	mu        sync.Mutex
	gathering *batch // nil: the next delivery is the first of its batch
}

// A batch belongs to the handler of its first delivery, which calls f; the others wait for it.
type batch struct {
	ds   []*Delivery
	full chan struct{} // closed with the last delivery that it takes
	done chan struct{} // closed when errs is set
	errs []error
}

func (b *batcher) handle(ctx context.Context, d *Delivery) error {
	x, i := b.join(d)
	if i == 0 {
		b.lead(ctx, x)
	}
	<-x.done
	return x.errs[i]
}

// join adds a delivery to a batch, and returns which place it has there.
func (b *batcher) join(d *Delivery) (x *batch, i int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gathering == nil {
		b.gathering = &batch{full: make(chan struct{}), done: make(chan struct{})}
	}
	x, i = b.gathering, len(b.gathering.ds)
	x.ds = append(x.ds, d)
	if len(x.ds) == b.size {
		b.gathering = nil
		close(x.full)
	}
	return x, i
}

// lead waits for the batch to fill, as long as it may, and works on it.
func (b *batcher) lead(ctx context.Context, x *batch) {
	defer close(x.done)
	t := time.NewTimer(b.wait)
	defer t.Stop()
	select {
	case <-x.full:
	case <-t.C:
	case <-Draining(ctx): // nothing more will come
	case <-ctx.Done():
	}
	b.mu.Lock()
	if b.gathering == x {
		b.gathering = nil
	}
	b.mu.Unlock()
	x.errs = slices.Repeat([]error{errGoexit}, len(x.ds)) // unless f returns
	errs, err := b.work(ctx, x)
	switch {
	case err != nil:
		errs = slices.Repeat([]error{err}, len(x.ds))
	case errs == nil:
		errs = make([]error, len(x.ds))
	}
	x.errs = errs
}

// work calls f. Its error is that of the whole batch.
func (b *batcher) work(ctx context.Context, x *batch) (errs []error, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	if ctx.Err() != nil { // the drain time is over, or that of a Timeout around it
		return nil, context.Cause(ctx)
	}
	errs = b.f(ctx, x.ds)
	if errs != nil && len(errs) != len(x.ds) {
		return nil, fmt.Errorf("consumer: the function of a Batch returned %d outcomes for %d deliveries; return one for each, or nil", len(errs), len(x.ds))
	}
	return errs, nil
}
