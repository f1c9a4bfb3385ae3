// Command consume consumes with amqp091-go only. It uses one connection, and a channel and a consumer per queue. By
// default, -goroutines goroutines per queue acknowledge each delivery individually. With -multiple, one goroutine per
// queue acknowledges that many deliveries at a time.
package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

func main() { side.Main(run) }

// counter counts the deliveries of all queues and closes done after the last one.
type counter struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

func (c *counter) add(n int) {
	if c.n.Add(int64(n)) == c.want {
		close(c.done)
	}
}

func run(ctx context.Context, t side.Task) (side.Result, error) {
	conn, err := amqp.Dial(t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close()
	lost := conn.NotifyClose(make(chan *amqp.Error, 1))
	count := &counter{want: int64(t.Messages), done: make(chan struct{})}
	channels := make([]*amqp.Channel, t.Queues)
	failed := make(chan error, t.Queues)
	var workers sync.WaitGroup

	clock := side.Start()
	for i, queue := range t.QueueNames() {
		workers.Go(func() { // concurrently, because subscribing takes round trips
			ch, deliveries, err := subscribe(conn, t, queue)
			if err != nil {
				failed <- err
				return
			}
			channels[i] = ch
			if t.Multiple > 1 {
				ackMultiple(ch, deliveries, t.Multiple, t.Messages/t.Queues, count)
				return
			}
			for range t.Goroutines - 1 {
				workers.Go(func() { ackEach(deliveries, count) })
			}
			ackEach(deliveries, count)
		})
	}
	select {
	case <-count.done:
	case err := <-failed:
		return side.Result{}, err
	case err := <-lost:
		return side.Result{}, err
	case <-ctx.Done():
		return side.Result{}, fmt.Errorf("stopped after %d of %d deliveries: %w", count.n.Load(), t.Messages, ctx.Err())
	}
	result := clock.Stop(t.Messages)

	for _, ch := range channels {
		if err := ch.Cancel("bench", false); err != nil { // the reply shows that the broker has received the acks
			return side.Result{}, err
		}
	}
	workers.Wait()
	return result, nil
}

func subscribe(conn *amqp.Connection, t side.Task, queue string) (*amqp.Channel, <-chan amqp.Delivery, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, nil, err
	}
	if err := ch.Qos(t.Prefetch, 0, false); err != nil {
		return nil, nil, err
	}
	var args amqp.Table
	if t.Stream {
		args = amqp.Table{"x-stream-offset": "first"}
	}
	deliveries, err := ch.Consume(queue, "bench", false, false, false, false, args)
	return ch, deliveries, err
}

func ackEach(deliveries <-chan amqp.Delivery, count *counter) {
	for d := range deliveries {
		if d.Ack(false) != nil {
			return // the connection was lost: run is notified
		}
		count.add(1)
	}
}

// ackMultiple acknowledges n deliveries at a time, and the rest with the last of the want deliveries.
func ackMultiple(ch *amqp.Channel, deliveries <-chan amqp.Delivery, n, want int, count *counter) {
	unacked, received := 0, 0
	for d := range deliveries {
		unacked++
		received++
		if unacked < n && received < want {
			continue
		}
		if ch.Ack(d.DeliveryTag, true) != nil {
			return
		}
		count.add(unacked)
		unacked = 0
	}
}
