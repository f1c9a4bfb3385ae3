package consumer

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Batch returns a Handler that collects deliveries and calls f with up to size of them. It calls f when the batch is
// full, or when wait has elapsed since its first delivery. Use it for bulk operations, such as inserting many rows
// into a database. f returns an outcome for each delivery, in their order, with the same meaning as a Handler's
// result: nil acknowledges it; [Reject], [Requeue] and other errors apply to that delivery. Returning a nil slice
// acknowledges the whole batch. If f panics or returns a wrong number of outcomes, all deliveries have failed.
//
// Each delivery of a batch occupies a worker until the batch is done. Config.Workers and Prefetch must be at least
// size; otherwise no batch fills, and each one takes the full wait. With twice size, one batch can fill while f works
// on another one. f gets the ctx of the batch's first delivery, so a Timeout around the Handler covers both
// collecting and work. When Run starts to shut down, a partial batch is passed to f at once. Deliveries with the same
// Config.Key are never in one batch. Do not share the Handler between Consumers.
//
// Batch panics if size or wait is not positive, or if f is nil.
func Batch(size int, wait time.Duration, f func(ctx context.Context, ds []*Delivery) []error) Handler {
	if size < 1 || wait <= 0 || f == nil {
		panic(fmt.Sprintf("consumer: Batch of size %d, wait %v: both must be positive, and the function must not be nil", size, wait))
	}
	b := &batcher{size: size, wait: wait, f: f}
	return b.handle
}

type batcher struct {
	size int
	wait time.Duration
	f    func(context.Context, []*Delivery) []error

	mu        sync.Mutex
	gathering *batch // nil if the next delivery starts a batch
}

// A batch is owned by the handler of its first delivery, which calls f. The other handlers wait for it.
type batch struct {
	ds   []*Delivery
	full chan struct{} // closed when the batch is full
	done chan struct{} // closed when errs is set
	errs []error
}

func (b *batcher) handle(ctx context.Context, d *Delivery) error {
	x, i := b.join(d)
	if i == 0 {
		b.await(ctx, x)
	}
	<-x.done
	return x.errs[i]
}

// join adds a delivery to a batch, and returns its index there.
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

// await waits until the batch is full or its time has elapsed, and calls f.
func (b *batcher) await(ctx context.Context, x *batch) {
	defer close(x.done)
	t := time.NewTimer(b.wait)
	defer t.Stop()
	select {
	case <-x.full:
	case <-t.C:
	case <-Draining(ctx): // no more deliveries will arrive
	case <-ctx.Done():
	}
	b.mu.Lock()
	if b.gathering == x {
		b.gathering = nil
	}
	b.mu.Unlock()
	x.errs = slices.Repeat([]error{errGoexit}, len(x.ds)) // the result if f does not return
	errs, err := b.work(ctx, x)
	switch {
	case err != nil:
		errs = slices.Repeat([]error{err}, len(x.ds))
	case errs == nil:
		errs = make([]error, len(x.ds))
	}
	x.errs = errs
}

// work calls f. Its error applies to the whole batch.
func (b *batcher) work(ctx context.Context, x *batch) (errs []error, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	if ctx.Err() != nil { // the drain timeout, or a Timeout around the Handler, has elapsed
		return nil, context.Cause(ctx)
	}
	errs = b.f(ctx, x.ds)
	if errs != nil && len(errs) != len(x.ds) {
		return nil, fmt.Errorf("consumer: the function of a Batch returned %d outcomes for %d deliveries; return one for each, or nil", len(errs), len(x.ds))
	}
	return errs, nil
}
