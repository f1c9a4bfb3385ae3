package consumer

import (
	"testing"
	"time"
)

func TestLedgerKnowsWhatTheBrokerTookByWhatItSends(t *testing.T) {
	l := ledger{open: map[uint64]arrival{}, window: 3}
	now := time.Now()
	for tag := uint64(1); tag <= 3; tag++ {
		l.delivered(tag, arrival{at: now.Add(time.Duration(tag))})
	}
	if n := l.inDoubt(now, 0); n != 0 {
		t.Errorf("%d in doubt before any settlement", n)
	}
	for tag := uint64(1); tag <= 2; tag++ {
		l.settle(tag, now)
	}
	if n := l.inDoubt(now, 0); n != 2 {
		t.Errorf("%d of 2 settlements in doubt, want both", n)
	}
	l.delivered(4, arrival{at: now}) // the fourth of three that may be unsettled: one was taken
	if n := l.inDoubt(now, 0); n != 1 {
		t.Errorf("%d in doubt after another delivery, want 1", n)
	}
	if n := l.inDoubt(now.Add(time.Minute), time.Minute); n != 1 {
		t.Errorf("%d in doubt after a minute, want 1", n)
	}
	if n := l.inDoubt(now.Add(time.Minute+1), time.Minute); n != 0 {
		t.Errorf("%d in doubt although the link was alive for longer than a dead one can seem so", n)
	}
}

func TestLedgerKnowsTheOldestDelivery(t *testing.T) {
	l := ledger{open: map[uint64]arrival{}}
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

func TestLedgerKnowsWhereAStreamIsToBeReadOn(t *testing.T) {
	l := ledger{open: map[uint64]arrival{}, window: 3}
	for tag := uint64(1); tag <= 3; tag++ {
		l.delivered(tag, arrival{offset: 99 + int64(tag)})
	}
	for _, c := range []struct {
		settle uint64
		want   int64
	}{{3, 100}, {1, 101}, {2, 103}} {
		l.settle(c.settle, time.Now())
		if got := l.unread(); got != c.want {
			t.Errorf("read on at %d after %d was settled, want %d", got, c.settle, c.want)
		}
	}
}
