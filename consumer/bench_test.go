package consumer

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// BenchmarkDispatcher measures passing a delivery to a handler that does nothing, and its result back.
func BenchmarkDispatcher(b *testing.B) {
	for _, workers := range []int{1, 8} {
		for _, keys := range []int{0, 1000} {
			b.Run(fmt.Sprintf("workers=%d/keys=%d", workers, keys), func(b *testing.B) {
				b.ReportAllocs()
				names := make([]string, max(keys, 1))
				for i := range names {
					if keys > 0 {
						names[i] = strconv.Itoa(i)
					}
				}
				in := newResults()
				d := newDispatcher(context.Background())
				end := atWork(d, workers, func(job) {})
				const prefetch = 300
				got, tag := 0, uint64(0)
				for b.Loop() {
					d.put(job{to: &in, tag: tag, key: names[tag%uint64(len(names))]})
					tag++
					for int(tag)-got >= prefetch {
						<-in.arrived
						got += len(d.collect(&in))
					}
				}
				end()
			})
		}
	}
}

// BenchmarkAckRuns measures recording deliveries and computing their acknowledgements.
func BenchmarkAckRuns(b *testing.B) {
	for _, run := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("run=%d", run), func(b *testing.B) {
			b.ReportAllocs()
			l := ledger{window: 300}
			now := time.Now()
			tag := uint64(0)
			tags := make([]uint64, 0, run)
			for b.Loop() {
				tag++
				l.delivered(tag, arrival{at: now})
				l.finish(tag)
				if tags = append(tags, tag); len(tags) == run {
					l.acks(tags, now, func(uint64, bool) {})
					tags = tags[:0]
				}
			}
		})
	}
}

func BenchmarkHandle(b *testing.B) {
	h := chain(func(context.Context, *Delivery) error { return nil }, nil)
	d := &Delivery{Delivery: amqp.Delivery{Body: []byte("m")}}
	b.ReportAllocs()
	for b.Loop() {
		if v := handle(b.Context(), h, d); v.how != ack {
			b.Fatal(v.err)
		}
	}
}
