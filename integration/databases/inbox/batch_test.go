package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
)

// A bulk is a Batch of n deliveries for tests.
type bulk struct {
	handler consumer.Handler
	calls   [][]string // the ids of each call
	mu      sync.Mutex
}

func (db *database) batch(t *testing.T, n int, fail func(d *consumer.Delivery) error) *bulk {
	t.Helper()
	var b bulk
	var err error
	b.handler, err = inbox.Batch(db.DB, db.Config, n, time.Minute, func(ctx context.Context, tx *sql.Tx, ds []*consumer.Delivery) error {
		var ids []string
		for _, d := range ds {
			ids = append(ids, d.MessageId)
		}
		b.mu.Lock()
		b.calls = append(b.calls, ids)
		b.mu.Unlock()
		for _, d := range ds {
			if err := db.apply(ctx, tx, d); err != nil {
				return err
			}
		}
		for _, d := range ds {
			if fail != nil {
				if err := fail(d); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return &b
}

// handle passes deliveries to the Batch, in any order, and returns their results.
func (b *bulk) handle(ctx context.Context, ds ...*consumer.Delivery) []error {
	errs := make([]error, len(ds))
	var wg sync.WaitGroup
	for i, d := range ds {
		wg.Go(func() { errs[i] = b.handler(ctx, d) })
	}
	wg.Wait()
	return errs
}

func deliveries(ids ...string) (ds []*consumer.Delivery) {
	for _, id := range ids {
		ds = append(ds, delivery(id))
	}
	return ds
}

func TestABatchIsOneTransactionWithoutTheDuplicates(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		for range 2 { // the second time all are duplicates
			if errs := db.batch(t, 3, nil).handle(t.Context(), deliveries("a", "c", "e")...); errors.Join(errs...) != nil {
				t.Fatal(errs)
			}
		}
		b := db.batch(t, 7, nil)
		if errs := b.handle(t.Context(), deliveries("a", "b", "c", "d", "d", "e", "b")...); errors.Join(errs...) != nil {
			t.Fatal(errs)
		}
		if len(b.calls) != 1 {
			t.Fatalf("calls: %v", b.calls)
		}
		if got := slices.Sorted(slices.Values(b.calls[0])); !slices.Equal(got, []string{"b", "d"}) {
			t.Errorf("called with %v", got)
		}
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			db.expect(t, id, 1)
		}
	})
}

func TestABadMessageDoesNotFailItsBatch(t *testing.T) {
	failure := errors.New("failure")
	onEach(t, func(t *testing.T, db *database) {
		var log logbook
		db.Logger = log.logger()
		db.ID = func(d *consumer.Delivery) string {
			if d.MessageId == "bad id" {
				panic("no id")
			}
			return d.MessageId
		}
		b := db.batch(t, 7, func(d *consumer.Delivery) error {
			switch d.MessageId {
			case "error":
				return failure
			case "reject":
				return consumer.Reject(failure)
			case "panic":
				panic("failure")
			}
			return nil
		})
		errs := b.handle(t.Context(), deliveries("a", "error", "b", "reject", "panic", "", "bad id")...)
		var panicked, badID *consumer.PanicError
		var rejected, withoutID *consumer.RejectError
		if errs[0] != nil || errs[1] != failure || errs[2] != nil || !errors.As(errs[3], &rejected) ||
			!errors.As(errs[4], &panicked) || !errors.As(errs[5], &withoutID) || !errors.As(errs[6], &badID) {
			t.Errorf("results: %v", errs)
		}
		if calls := len(b.calls); calls != 6 { // the batch, and each of its messages with an id
			t.Errorf("%d calls", calls)
		}
		for id, want := range map[string]int{"a": 1, "error": 0, "b": 1, "reject": 0, "panic": 0} {
			db.expect(t, id, want)
		}
		if n := strings.Count(log.String(), `level=WARN msg="inbox: a batch failed, handling its messages one by one"`); n != 1 {
			t.Errorf("logged\n%s", &log)
		}
		if errs := db.batch(t, 2, nil).handle(t.Context(), deliveries("error", "reject")...); errors.Join(errs...) != nil {
			t.Errorf("redelivery: %v", errs)
		}
		db.expect(t, "error", 1)
	})
}

func TestAFailedRepetitionInABatchSharesNoOutcome(t *testing.T) {
	failure := errors.New("failure")
	onEach(t, func(t *testing.T, db *database) {
		b := db.batch(t, 2, func(*consumer.Delivery) error { return failure })
		if errs := b.handle(t.Context(), deliveries("a", "a")...); errs[0] != failure || errs[1] != failure {
			t.Errorf("results: %v", errs)
		}
		db.expect(t, "a", 0)
	})
}

func TestABatchOfOneIsTriedOnce(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		failure := errors.New("failure")
		b := db.batch(t, 1, func(*consumer.Delivery) error { return failure })
		if err := b.handler(t.Context(), delivery("a")); err != failure || len(b.calls) != 1 {
			t.Errorf("%v after %d calls", err, len(b.calls))
		}
	})
}

func TestAnUnreachableDatabaseFailsABatchAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		var log logbook
		db.Logger = log.logger()
		b := db.batch(t, 3, nil)
		_ = db.Close()
		for _, err := range b.handle(t.Context(), deliveries("a", "b", "c")...) {
			if err == nil || !strings.HasPrefix(err.Error(), "inbox: begin a transaction: ") {
				t.Errorf("result %v", err)
			}
		}
		if log.String() != "" { // the messages are not tried one by one
			t.Errorf("logged\n%s", &log)
		}
	})
}

func TestTheEndOfCtxFailsTheRestOfABatch(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		h, err := inbox.Batch(db.DB, db.Config, 4, time.Minute, func(ctx context.Context, tx *sql.Tx, ds []*consumer.Delivery) error {
			if calls++; len(ds) > 1 {
				return errors.New("failure")
			}
			if calls == 3 {
				cancel()
			}
			return db.apply(ctx, tx, ds[0])
		})
		if err != nil {
			t.Fatal(err)
		}
		acknowledged := 0
		for _, err := range (&bulk{handler: h}).handle(ctx, deliveries("a", "b", "c", "d")...) {
			if err == nil {
				acknowledged++
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("result %v", err)
			}
		}
		if n := db.count(t, "SELECT COUNT(*) FROM effects"); n != 1 || acknowledged != 1 || calls != 3 {
			t.Errorf("%d acknowledged, %d effects, %d calls", acknowledged, n, calls)
		}
	})
}

func TestLargeBatches(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		const n = 2300
		var ids []string
		for i := range n {
			ids = append(ids, strconv.Itoa(i))
		}
		if errs := db.batch(t, 1, nil).handle(t.Context(), delivery("7")); errs[0] != nil {
			t.Fatal(errs)
		}
		if errs := db.batch(t, n, nil).handle(t.Context(), deliveries(ids...)...); errors.Join(errs...) != nil {
			t.Fatal(errs)
		}
		if total, messages := db.count(t, "SELECT COUNT(*) FROM effects"), db.count(t, "SELECT COUNT(DISTINCT message) FROM effects"); total != n || messages != n {
			t.Errorf("%d effects of %d messages, want %d", total, messages, n)
		}
	})
}

// Two processes get the same messages in batches, in different order.
func TestOverlappingBatchesDoNotDeadlock(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		var log logbook
		db.Logger = log.logger()
		const rounds, size = 15, 30
		elsewhere := *db
		elsewhere.DB = db.open(t)
		for round := range rounds {
			var wg sync.WaitGroup
			for _, side := range []*database{db, &elsewhere} {
				b := side.batch(t, size, nil)
				wg.Go(func() {
					var ids []string
					for _, i := range rand.Perm(size) {
						ids = append(ids, fmt.Sprintf("%d-%d", round, i))
					}
					if errs := b.handle(t.Context(), deliveries(ids...)...); errors.Join(errs...) != nil {
						t.Errorf("round %d: %v", round, errors.Join(errs...))
					}
				})
			}
			wg.Wait()
		}
		if total, messages := db.count(t, "SELECT COUNT(*) FROM effects"), db.count(t, "SELECT COUNT(DISTINCT message) FROM effects"); total != rounds*size || messages != total {
			t.Errorf("%d effects of %d messages, want %d", total, messages, rounds*size)
		}
		if strings.Contains(log.String(), "a batch failed") {
			t.Errorf("logged\n%.1000s", &log)
		}
	})
}
