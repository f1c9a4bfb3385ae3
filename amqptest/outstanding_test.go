package amqptest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestOutstandingMatchesReferenceList(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var l outstanding
	var open []uint64
	next := uint64(1)
	for range 100_000 {
		if r.IntN(2) == 0 {
			l.add(next, fmt.Sprint(next))
			open = append(open, next)
			next++
			continue
		}
		tag, multiple := next-min(next, r.Uint64N(20)), r.IntN(4) == 0
		var want, got []uint64
		open = slices.DeleteFunc(open, func(o uint64) bool {
			taken := o == tag || multiple && (o < tag || tag == 0)
			if taken {
				want = append(want, o)
			}
			return taken
		})
		found := l.take(tag, multiple, func(tag uint64, id string) {
			if id != fmt.Sprint(tag) {
				t.Errorf("the message of %d has the id %s", tag, id)
			}
			got = append(got, tag)
		})
		if !slices.Equal(got, want) || found != (len(want) > 0) {
			t.Fatalf("take(%d, %v) = %d, %v; want %d", tag, multiple, got, found, want)
		}
	}
	if len(l.ids) != len(open) {
		t.Errorf("%d outstanding, want %d", len(l.ids), len(open))
	}
}

func TestOutstandingIsBounded(t *testing.T) {
	var l outstanding
	for tag := range uint64(10 * maxOutstanding) {
		l.add(tag+1, "")
		if tag > 0 && tag%3 > 0 { // keeps the first one and others
			l.take(tag+1, false, func(uint64, string) {})
		}
		if len(l.ids) > maxOutstanding || len(l.order) > 2*maxOutstanding {
			t.Fatalf("after %d: %d outstanding, %d in order", tag, len(l.ids), len(l.order))
		}
	}
	if l.take(1, false, func(uint64, string) {}) || !l.take(10*maxOutstanding-1, true, func(uint64, string) {}) {
		t.Error("not the oldest was forgotten")
	}
	l.add(1, "")
	l.add(1<<60, "") // a hostile broker
	if !l.take(1<<61, true, func(uint64, string) {}) {
		t.Error("nothing was settled")
	}
}
