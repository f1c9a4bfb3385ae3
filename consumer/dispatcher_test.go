package consumer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// atWork runs n workers of a dispatcher. The handler is called with each job. The returned function stops the
// workers.
func atWork(d *dispatcher, n int, handle func(job)) (end func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				j, ok := d.take()
				if !ok {
					return
				}
				handle(j)
				d.done(result{job: j})
			}
		})
	}
	return func() { d.close(); wg.Wait() }
}

func TestDeliveriesOfAKeyAreHandledInOrderAndOtherKeysConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newResults()
		d := newDispatcher(t.Context())
		var mu sync.Mutex
		var most, now int
		seen := map[string][]uint64{}
		end := atWork(d, 8, func(j job) {
			mu.Lock()
			seen[j.key] = append(seen[j.key], j.tag)
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Duration(1+rand.IntN(9)) * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
		})
		const n = 1000
		for tag := range uint64(n) {
			d.put(job{to: &in, tag: tag, key: fmt.Sprint("key-", tag%20)})
		}
		for got := 0; got < n; {
			<-in.arrived
			got += len(d.collect(&in))
		}
		end()
		for key, tags := range seen {
			if !slices.IsSorted(tags) {
				t.Errorf("%s was handled as %v", key, tags)
			}
		}
		if most != 8 {
			t.Errorf("%d handlers at once, want all 8", most)
		}
		if len(d.queues) != 0 {
			t.Errorf("%d key queues are left", len(d.queues))
		}
	})
}

// A handler that outlives its session blocks its key: the redelivered message waits for it.
func TestHandlerOfALostSessionBlocksItsKey(t *testing.T) {
	d := newDispatcher(t.Context())
	lost, next := newResults(), newResults()
	d.put(job{to: &lost, tag: 1, key: "k"})
	d.put(job{to: &lost, tag: 2, key: "k"})
	j, _ := d.take()
	if back := d.withdraw(); len(back) != 1 || back[0].tag != 2 {
		t.Fatalf("withdrawn %v, want tag 2", back)
	}
	d.shut(&lost, nil)
	d.put(job{to: &next, tag: 1, key: "k"})
	if d.ready.len() != 0 {
		t.Error("a second handler may start with the key")
	}
	if d.done(result{job: j}) {
		t.Error("the lost session accepted the result")
	}
	if d.ready.len() != 1 {
		t.Error("the key is still blocked")
	}
}

func TestWithdrawReturnsUnstartedJobsInDeliveryOrder(t *testing.T) {
	d := newDispatcher(t.Context())
	in := newResults()
	for tag, key := range []string{"", "a", "b", "a", "", "b", "a"} {
		d.put(job{to: &in, tag: uint64(tag), key: key})
	}
	first, _ := d.take()
	second, _ := d.take() // blocks the key a
	var tags []uint64
	for _, j := range d.withdraw() {
		tags = append(tags, j.tag)
	}
	if first.tag != 0 || second.tag != 1 || !slices.Equal(tags, []uint64{2, 3, 4, 5, 6}) {
		t.Errorf("started %d and %d, withdrawn %v", first.tag, second.tag, tags)
	}
	d.done(result{job: first})
	d.done(result{job: second})
	if len(d.queues) != 0 || d.ready.len() != 0 {
		t.Errorf("key queues %v, %d ready, want none", d.queues, d.ready.len())
	}
}

func TestNoHandlerStartsAfterTheEndOfRunsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := newDispatcher(ctx)
		end := atWork(d, 2, func(job) { t.Error("handler started") })
		synctest.Wait()
		cancel()
		in := newResults()
		d.put(job{to: &in})
		synctest.Wait()
		if jobs := d.withdraw(); len(jobs) != 1 {
			t.Errorf("%d jobs withdrawn, want 1", len(jobs))
		}
		end()
	})
}

// Few workers are woken, but every ready job runs.
func TestReadyJobsRunWhileAWorkerIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatcher(t.Context())
		in := newResults()
		release := make(chan struct{})
		var begun sync.WaitGroup
		begun.Add(50)
		end := atWork(d, 50, func(job) { begun.Done(); <-release })
		for range 50 {
			d.put(job{to: &in})
		}
		begun.Wait() // synctest reports a deadlock if a job does not start
		close(release)
		synctest.Wait()
		end()
	})
}

func TestFifoKeepsOrderAndReusesMemory(t *testing.T) {
	var f fifo[int]
	next := 0
	for i := range 10_000 {
		f.push(i)
		if i%3 == 0 || f.len() > 20 {
			if v := f.pop(); v != next {
				t.Fatalf("popped %d, want %d", v, next)
			}
			next++
		}
	}
	if cap(f.items) > 100 {
		t.Errorf("capacity %d for at most 20 values", cap(f.items))
	}
	if all := f.all(); len(all) != 10_000-next || all[0] != next || f.len() != 0 {
		t.Errorf("%d left, the first %d", len(all), all[0])
	}
}
