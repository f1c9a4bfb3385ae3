package outbox

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestLeasesEndByEachClock sets the end of the leases back on one of the two clocks of time.Time, as if the other one had
// stood still while the machine was suspended.
func TestLeasesEndByEachClock(t *testing.T) {
	for name, until := range map[string]time.Time{
		"both":       time.Now().Add(-time.Second),
		"wall clock": time.Now().Add(-time.Second).Round(0), // without a monotonic reading
	} {
		l := &leases{}
		l.begin(context.Background())
		l.renewed(time.Now().Add(time.Hour))
		l.owned = map[int]bool{2: true}
		ctx, shards := l.use(0)
		if len(shards) != 1 || ctx.Err() != nil || !l.valid() {
			t.Fatalf("%s: shards %v, %v", name, shards, ctx.Err())
		}
		l.until = until
		if _, shards := l.use(0); len(shards) != 0 || l.valid() {
			t.Errorf("%s: the leases are in use after their end", name)
		}
		l.renewed(time.Now().Add(time.Hour)) // before the timer
		if cause := context.Cause(ctx); !errors.Is(cause, errLeaseLost) {
			t.Errorf("%s: the batch continues after the end of its leases: %v", name, cause)
		}
		if !l.valid() {
			t.Errorf("%s: the leases are not renewed", name)
		}
		l.stop()
	}
}

func TestLeasesOfABatchEndIfAnotherRelayHasAShard(t *testing.T) {
	l := &leases{}
	l.begin(context.Background())
	defer l.stop()
	l.keep(map[int]bool{2: true, 4: true}, 16)
	l.renewed(time.Now().Add(time.Hour))
	ctx, _ := l.use(0)
	if l.keep(map[int]bool{2: true, 4: true}, 1); ctx.Err() != nil {
		t.Error("a batch ended because its shard is above the share")
	}
	if l.keep(map[int]bool{2: true}, 16); ctx.Err() == nil {
		t.Error("a batch continues without the lease of a shard")
	}
}

func TestFloorsFollowASequenceThatWasReset(t *testing.T) {
	f := floors{full: time.Now()}
	f.ranges([]int{0})
	f.seen([]*row{{id: 1000}})
	f.candidates = map[int]int64{0: 1000}
	f.full = time.Now().Add(-2 * fullInterval)
	if ranges := f.ranges([]int{0}); ranges[0].floor != 0 || f.candidates != nil {
		t.Errorf("floor %d and candidates %v after the interval", ranges[0].floor, f.candidates)
	}
	f.seen([]*row{{id: 3}})
	f.seen(nil)
	if f.highest != 3 {
		t.Errorf("highest id %d, want 3", f.highest)
	}
}
