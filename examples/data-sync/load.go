package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// writers is the number of goroutines that change orders. All of them change the same rows.
const writers = 4

// changeOrders inserts, updates and deletes orders for a time, and returns the number of changes.
func changeOrders(ctx context.Context, s *orderStore, load time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, load)
	defer cancel()
	var newest int64
	if err := s.db.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM orders").Scan(&newest); err != nil {
		return 0, err
	}
	var changes atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for range writers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := s.changeOne(ctx, newest); err != nil && ctx.Err() == nil {
					errs <- err
					cancel()
					return
				}
				changes.Add(1)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return changes.Load(), err
	default:
		return changes.Load(), nil
	}
}

// changeOne makes a random change. Half of them concern the same 20 rows, which therefore change often.
func (s *orderStore) changeOne(ctx context.Context, newest int64) error {
	id := 1 + rand.Int64N(max(newest, 1)+100)
	switch n := rand.IntN(10); {
	case n < 3:
		return s.insert(ctx, Order{Customer: fmt.Sprint("customer ", rand.IntN(50)), Cents: rand.Int64N(100_00), Status: "new"})
	case n < 4:
		return s.delete(ctx, id+20)
	case n < 9:
		id = 1 + rand.Int64N(20)
	}
	return s.pay(ctx, id, 1+rand.Int64N(10_00))
}
