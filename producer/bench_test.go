package producer

import (
	"context"
	"fmt"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// What the window costs a message, from its publisher to its outcome, with so many in flight.
func BenchmarkWindow(b *testing.B) {
	for _, inFlight := range []int{1, 16, 1024} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			w := newWindow(Config{MaxInFlight: inFlight, MaxInFlightBytes: 1 << 30})
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			sent := make([]*Receipt, 0, inFlight)
			b.ReportAllocs()
			for b.Loop() {
				r := newReceipt(ctx, 0)
				w.submit(r, false)
				if !w.claim(w.head()) {
					b.Fatal("the message had its outcome before it was sent")
				}
				if sent = append(sent, r); len(sent) == inFlight {
					for _, r := range sent {
						w.finish(r, nil)
					}
					sent = sent[:0]
				}
			}
		})
	}
}

// What the checks before the wire and the defaults cost a message.
func BenchmarkPrepare(b *testing.B) {
	for _, headers := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("headers=%d", headers), func(b *testing.B) {
			p := &Producer{ids: newIDs()}
			p.maxSize.Store(1 << 20)
			pub := amqp.Publishing{ContentType: "application/json", Body: make([]byte, 1024)}
			if headers > 0 {
				pub.Headers = amqp.Table{}
			}
			for i := range headers {
				pub.Headers[fmt.Sprintf("header-%d", i)] = "value"
			}
			r := &Receipt{ctx: b.Context()}
			b.ReportAllocs()
			for b.Loop() {
				r.msg = Message{Exchange: "orders", Key: "order.paid", Publishing: pub}
				if err := p.prepare(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
