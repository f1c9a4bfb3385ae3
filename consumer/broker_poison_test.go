package consumer_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
)

func TestConsumerUsesADedicatedConnectionUntilASuspicionIsDropped(t *testing.T) {
	for code, more := range map[int]int{541: 1, 320: 0} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				release := make(chan struct{})
				handled := make(chan string, 100)
				_, end := b.run(consumer.Config{Prefetch: 10}, func(_ context.Context, d *consumer.Delivery) error {
					if !d.Redelivered {
						<-release // running when the connection is lost
					}
					handled <- string(d.Body)
					return nil
				})
				var want []string
				for i := range 20 {
					want = append(want, fmt.Sprint(i))
				}
				b.publish(want...)
				synctest.Wait()
				before := len(b.Connections())
				b.CloseConnections(code, "")
				close(release)
				time.Sleep(500 * time.Millisecond)
				synctest.Wait()
				if n := len(b.Connections()); n != before+more {
					t.Errorf("%d connections half a second later, want %d", n, before+more)
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if n := len(b.Connections()); n != before {
					t.Errorf("%d connections at the end, want %d", n, before)
				}
				b.publish("last")
				b.await(func() bool { return b.queue("orders").Ready+b.queue("orders").Unacked == 0 })
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
				close(handled)
				seen := map[string]bool{}
				for body := range handled {
					seen[body] = true
				}
				if len(seen) != len(want)+1 {
					t.Errorf("%d of %d messages handled", len(seen), len(want)+1)
				}
				b.expectLeft(0, 0)
			})
		})
	}
}
