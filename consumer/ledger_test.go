package consumer

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestLedgerInfersAppliedSettlementsFromDeliveries(t *testing.T) {
	l := ledger{window: 3}
	now := time.Now()
	for tag := uint64(1); tag <= 3; tag++ {
		l.delivered(tag, arrival{at: now.Add(time.Duration(tag))})
	}
	if n := l.inDoubt(); n != 0 {
		t.Errorf("%d in doubt before any settlement", n)
	}
	for tag := uint64(1); tag <= 2; tag++ {
		l.settle(tag, now)
	}
	if n := l.inDoubt(); n != 2 {
		t.Errorf("%d of 2 settlements in doubt, want both", n)
	}
	l.delivered(4, arrival{at: now}) // a fourth delivery with a prefetch of 3 proves one settlement
	if n := l.inDoubt(); n != 1 {
		t.Errorf("%d in doubt after another delivery, want 1", n)
	}
}

func TestLedgerReturnsTheOldestDelivery(t *testing.T) {
	l := ledger{}
	if _, ok := l.oldest(); ok {
		t.Error("an empty ledger has an oldest delivery")
	}
	now := time.Now()
	l.delivered(1, arrival{at: now, messageID: "a"})
	l.delivered(2, arrival{at: now.Add(time.Second), messageID: "b"})
	l.delivered(3, arrival{at: now.Add(2 * time.Second), messageID: "c"})
	if a, ok := l.oldest(); !ok || a.messageID != "a" {
		t.Errorf("oldest = %+v, want a", a)
	}
	l.settle(1, now)
	if a, ok := l.oldest(); !ok || a.messageID != "b" {
		t.Errorf("oldest = %+v once a is settled, want b", a)
	}
}

func TestLedgerReturnsTheFirstUnsettledOffset(t *testing.T) {
	l := ledger{window: 3}
	for tag := uint64(1); tag <= 3; tag++ {
		l.delivered(tag, arrival{offset: 99 + int64(tag)})
	}
	for _, c := range []struct {
		settle uint64
		want   int64
	}{{3, 100}, {1, 101}, {2, 103}} {
		l.settle(c.settle, time.Now())
		if got := l.unread(); got != c.want {
			t.Errorf("continue at %d after %d was settled, want %d", got, c.settle, c.want)
		}
	}
}

func TestConsecutiveFinishedDeliveriesShareOneAcknowledgement(t *testing.T) {
	type call struct {
		tag      uint64
		multiple bool
	}
	for name, c := range map[string]struct {
		settled  []uint64   // before, otherwise
		finished [][]uint64 // in consecutive calls of acks
		want     [][]call
	}{
		"a single delivery":              {nil, [][]uint64{{1}}, [][]call{{{1, false}}}},
		"in order":                       {nil, [][]uint64{{1, 2, 3}}, [][]call{{{3, true}}}},
		"out of order, complete":         {nil, [][]uint64{{3, 1, 2}}, [][]call{{{3, true}}}},
		"behind a gap":                   {nil, [][]uint64{{2, 3}}, [][]call{{{2, false}, {3, false}}}},
		"on both sides of a gap":         {nil, [][]uint64{{1, 2, 4}}, [][]call{{{2, true}, {4, false}}}},
		"the gap closes":                 {nil, [][]uint64{{2, 3}, {1}, {4, 5}}, [][]call{{{2, false}, {3, false}}, {{1, false}}, {{5, true}}}},
		"across a settled delivery":      {[]uint64{2}, [][]uint64{{1, 3}}, [][]call{{{3, true}}}},
		"one, before a settled delivery": {[]uint64{2}, [][]uint64{{1}}, [][]call{{{1, false}}}},
	} {
		l := ledger{window: 5}
		now := time.Now()
		for tag := uint64(1); tag <= 5; tag++ {
			l.delivered(tag, arrival{at: now})
		}
		for _, tag := range c.settled {
			l.settle(tag, now)
		}
		left := 5 - len(c.settled)
		for i, tags := range c.finished {
			for _, tag := range tags {
				l.finish(tag)
			}
			var got []call
			l.acks(tags, now, func(tag uint64, multiple bool) { got = append(got, call{tag, multiple}) })
			if !slices.Equal(got, c.want[i]) {
				t.Errorf("%s: %v sent, want %v", name, got, c.want[i])
			}
			left -= len(tags)
		}
		if l.open != left || l.settled != 5-left {
			t.Errorf("%s: %d open, %d settled, want %d and %d", name, l.open, l.settled, left, 5-left)
		}
	}
}

// An acknowledgement with multiple covers only deliveries that handlers have finished, in any order of finishing.
func TestAcknowledgementsDoNotCoverUnfinishedDeliveries(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		l := ledger{window: 1000}
		acked := map[uint64]bool{}
		finished := map[uint64]bool{}
		var waiting, batch []uint64
		next := uint64(1)
		for next <= 300 || len(waiting) > 0 {
			for range rng.IntN(8) {
				if next <= 300 {
					l.delivered(next, arrival{})
					waiting = append(waiting, next)
					next++
				}
			}
			batch = batch[:0]
			for range min(rng.IntN(6), len(waiting)) {
				i := rng.IntN(len(waiting))
				batch = append(batch, waiting[i])
				finished[waiting[i]] = true
				l.finish(waiting[i])
				waiting = slices.Delete(waiting, i, i+1)
			}
			if len(batch) == 0 {
				continue
			}
			l.acks(batch, time.Time{}, func(tag uint64, multiple bool) {
				from := tag
				if multiple {
					from = 1
				}
				for x := from; x <= tag; x++ {
					if !finished[x] {
						t.Fatalf("%d is acknowledged by %d and not finished", x, tag)
					}
					acked[x] = true
				}
			})
			for _, tag := range batch {
				if !acked[tag] {
					t.Fatalf("%d is finished and not acknowledged", tag)
				}
			}
		}
		if l.open != 0 || l.entries.len() != 0 {
			t.Fatalf("%d open, %d entries at the end", l.open, l.entries.len())
		}
	}
}

func TestInvalidDeliveryTagsAreRefused(t *testing.T) {
	l := ledger{window: 3}
	if !l.delivered(1, arrival{}) || !l.delivered(2, arrival{}) || !l.delivered(3, arrival{}) {
		t.Fatal("valid tags are refused")
	}
	l.settle(1, time.Now())
	for _, tag := range []uint64{0, 1, 2, 3, 5, 1 << 62} {
		if l.delivered(tag, arrival{}) {
			t.Errorf("tag %d was accepted", tag)
		}
	}
	if l.open != 2 || l.entries.len() != 2 {
		t.Errorf("%d open of %d, want 2 of 2", l.open, l.entries.len())
	}
}

// A delivery that stays unsettled, for example because its handler hangs, must not keep settled ones in memory.
func TestLedgerDoesNotGrowBehindAnUnsettledDelivery(t *testing.T) {
	l := ledger{window: 10}
	began := time.Now()
	l.delivered(1, arrival{at: began, messageID: "hangs"})
	acks := 0
	for tag := uint64(2); tag <= 100_000; tag++ {
		l.delivered(tag, arrival{at: began.Add(time.Second)})
		l.finish(tag)
		l.acks([]uint64{tag}, began, func(got uint64, multiple bool) {
			if got != tag || multiple {
				t.Fatalf("%d, %v sent for %d", got, multiple, tag)
			}
			acks++
		})
	}
	if l.entries.len() > 200 || cap(l.entries.items) > 1000 || len(l.late) != 1 || l.open != 1 || acks != 99_999 {
		t.Errorf("%d entries, room for %d, %d late, %d open, %d acks", l.entries.len(), cap(l.entries.items), len(l.late), l.open, acks)
	}
	if a, ok := l.oldest(); !ok || a.messageID != "hangs" {
		t.Errorf("oldest = %+v", a)
	}
	l.finish(1)
	l.acks([]uint64{1}, began, func(got uint64, multiple bool) {
		if got != 1 || multiple {
			t.Errorf("%d, %v sent for the late delivery", got, multiple)
		}
	})
	l.delivered(100_001, arrival{})
	l.delivered(100_002, arrival{})
	l.finish(100_001)
	l.finish(100_002)
	l.acks([]uint64{100_001, 100_002}, began, func(got uint64, multiple bool) {
		if got != 100_002 || !multiple {
			t.Errorf("%d, %v sent, want one for both", got, multiple)
		}
	})
	if l.open != 0 || len(l.late) != 0 {
		t.Errorf("%d open, %d late at the end", l.open, len(l.late))
	}
}
