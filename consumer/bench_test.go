package consumer

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// What the ledger costs a delivery that is acknowledged, where handlers finish in the order of delivery and where they do
// not; a run is what is finished when acknowledgements are sent.
func BenchmarkAckRuns(b *testing.B) {
	for _, run := range []int{1, 10, 100} {
		for _, order := range []string{"kept", "mixed"} {
			b.Run(fmt.Sprintf("run=%d/order=%s", run, order), func(b *testing.B) {
				const prefetch = 300
				l := ledger{window: prefetch}
				rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a reproducible sequence
				var open, tags []uint64
				var next uint64
				now, frames := time.Now(), 0
				b.ReportAllocs()
				for b.Loop() {
					next++
					l.delivered(next, arrival{at: now})
					open = append(open, next)
					if len(open) < prefetch {
						continue
					}
					if order == "mixed" { // any of the last runs may be done first
						last := open[:min(len(open), 2*run)]
						rng.Shuffle(len(last), func(i, j int) { last[i], last[j] = last[j], last[i] })
					}
					tags = append(tags[:0], open[:run]...)
					open = append(open[:0], open[run:]...)
					for _, tag := range tags {
						l.finish(tag)
					}
					l.acks(tags, now, func(uint64, bool) { frames++ })
				}
				b.ReportMetric(float64(frames)/float64(b.N), "frames/op")
			})
		}
	}
}

// What it costs a delivery to get to a worker and its result back, with keys that keep an order and without.
func BenchmarkLanes(b *testing.B) {
	for _, workers := range []int{1, 16} {
		for _, keys := range []int{0, 1, 1000} {
			b.Run(fmt.Sprintf("workers=%d/keys=%d", workers, keys), func(b *testing.B) {
				names := make([]string, max(keys, 1)) // one empty name: no order
				for i := range keys {
					names[i] = "key-" + strconv.Itoa(i)
				}
				s := &session{inbox: newInbox()}
				d := newDesk(b.Context())
				end := atWork(d, workers, func(job) {})
				const prefetch = 300
				unsettled, tag := 0, uint64(0)
				b.ReportAllocs()
				for b.Loop() {
					if unsettled == prefetch {
						<-s.inbox.arrived
						unsettled -= len(d.collect(&s.inbox))
					}
					tag++
					unsettled++
					d.put(job{s: s, tag: tag, key: names[tag%uint64(len(names))]})
				}
				end()
			})
		}
	}
}
