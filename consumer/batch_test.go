package consumer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// gather calls h concurrently with n deliveries, and returns their results.
func gather(ctx context.Context, h Handler, n int) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = h(ctx, &Delivery{Queue: fmt.Sprint(i)}) })
	}
	wg.Wait()
	return errs
}

func TestBatchRunsWhenFullOrWhenItsTimeHasElapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		h := Batch(4, time.Second, func(_ context.Context, ds []*Delivery) []error {
			mu.Lock()
			defer mu.Unlock()
			sizes = append(sizes, len(ds))
			return nil
		})
		began := time.Now()
		gather(t.Context(), h, 8)
		if took := time.Since(began); took != 0 || !slices.Equal(sizes, []int{4, 4}) {
			t.Errorf("batches of %v after %v, want two of 4 at once", sizes, took)
		}
		gather(t.Context(), h, 5)
		if took := time.Since(began); took != time.Second || !slices.Equal(sizes, []int{4, 4, 4, 1}) {
			t.Errorf("batches of %v after %v, want the last of 1 after 1 s", sizes, took)
		}
	})
}

func TestBatchReturnsTheOutcomeOfEachDelivery(t *testing.T) {
	boom := errors.New("boom")
	outcome := map[string]error{"1": boom, "2": Reject(boom)}
	h := Batch(3, time.Minute, func(_ context.Context, ds []*Delivery) []error {
		errs := make([]error, len(ds))
		for i, d := range ds {
			errs[i] = outcome[d.Queue]
		}
		return errs
	})
	errs := gather(t.Context(), h, 3)
	var rejected *RejectError
	if errs[0] != nil || errs[1] != boom || !errors.As(errs[2], &rejected) {
		t.Errorf("%v", errs)
	}
}

func TestBatchFailsAllDeliveriesAfterAPanicOrAWrongNumberOfOutcomes(t *testing.T) {
	for want, f := range map[string]func(context.Context, []*Delivery) []error{
		"panic: boom":                    func(context.Context, []*Delivery) []error { panic("boom") },
		"1 outcomes for 3 deliveries":    func(context.Context, []*Delivery) []error { return []error{nil} },
		"0 outcomes for 3 deliveries":    func(context.Context, []*Delivery) []error { return []error{} },
		context.DeadlineExceeded.Error(): nil,
	} {
		ctx := t.Context()
		if f == nil { // ctx has ended: f is not called
			c, cancel := context.WithTimeout(ctx, 0)
			defer cancel()
			ctx, f = c, func(context.Context, []*Delivery) []error { t.Error("called"); return nil }
		}
		for _, err := range gather(ctx, Batch(3, time.Minute, f), 3) {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
}

func TestBatchFailsIfItsFunctionCallsGoexit(t *testing.T) {
	h := Batch(2, time.Minute, func(context.Context, []*Delivery) []error { runtime.Goexit(); return nil })
	results := make(chan error, 2)
	for range 2 {
		go func() {
			returned := false
			defer func() {
				if !returned {
					results <- errGoexit
				}
			}()
			err := h(t.Context(), &Delivery{})
			returned = true
			results <- err
		}()
	}
	for range 2 {
		if err := <-results; !errors.Is(err, errGoexit) {
			t.Errorf("%v, want errGoexit", err)
		}
	}
}

func TestBatchIsAcknowledgedTogetherAfterItsFunctionReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				for range n {
					l.deliver(nil)
				}
			}
		}}
		var early atomic.Int64
		_, end := runOn(t, b, Config{Workers: n}, Batch(n, time.Minute, func(_ context.Context, ds []*Delivery) []error {
			time.Sleep(time.Second)
			early.Store(int64(b.acked()))
			return make([]error, len(ds))
		}))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if early.Load() != 0 || b.acked() != n {
			t.Errorf("%d acknowledged within the function, %d after it, want none and %d", early.Load(), b.acked(), n)
		}
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// After the end of Run's ctx no more deliveries arrive, so a partial batch must not wait.
func TestBatchDoesNotWaitForMoreDeliveriesDuringShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				l.deliver(nil)
			}
		}}
		_, end := runOn(t, b, Config{Workers: 10}, Batch(10, time.Hour, func(_ context.Context, ds []*Delivery) []error {
			return make([]error, len(ds))
		}))
		synctest.Wait()
		began := time.Now()
		if err := end(); err != nil || b.acked() != 1 {
			t.Errorf("Run = %v, %d acknowledged", err, b.acked())
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("Run returned after %v", took)
		}
	})
}
