// Command consume consumes with amqp091-go alone: one connection, a channel and a consumer for each queue. Deliveries
// are acknowledged one by one, by as many goroutines as asked for, or every so many at once (multiple) by one.
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

// all counts the deliveries of all queues, and closes done with the last one.
type all struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

func (a *all) add(n int) {
	if a.n.Add(int64(n)) == a.want {
		close(a.done)
	}
}

func run(ctx context.Context, t side.Task) (side.Result, error) {
	conn, err := amqp.Dial(t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close()
	lost := conn.NotifyClose(make(chan *amqp.Error, 1))
	count := &all{want: int64(t.Messages), done: make(chan struct{})}
	channels := make([]*amqp.Channel, t.Queues)
	failed := make(chan error, t.Queues)
	var workers sync.WaitGroup

	clock := side.Start()
	for i, queue := range t.QueueNames() {
		workers.Go(func() { // a round trip takes its time: all subscribe at once
			ch, deliveries, err := subscribe(conn, t, queue)
			if err != nil {
				failed <- err
				return
			}
			channels[i] = ch
			if t.Multiple > 1 {
				ackRuns(ch, deliveries, t.Multiple, t.Messages/t.Queues, count)
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
		return side.Result{}, fmt.Errorf("%d of %d deliveries: %w", count.n.Load(), t.Messages, ctx.Err())
	}
	result := clock.Stop(t.Messages)

	for _, ch := range channels {
		if err := ch.Cancel("bench", false); err != nil { // its answer proves that the acks were taken
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

func ackEach(deliveries <-chan amqp.Delivery, count *all) {
	for d := range deliveries {
		if d.Ack(false) != nil {
			return // the connection is lost, which run sees
		}
		count.add(1)
	}
}

func ackRuns(ch *amqp.Channel, deliveries <-chan amqp.Delivery, run, want int, count *all) {
	unacked, seen := 0, 0
	for d := range deliveries {
		unacked++
		seen++
		if unacked < run && seen < want {
			continue
		}
		if ch.Ack(d.DeliveryTag, true) != nil {
			return
		}
		count.add(unacked)
		unacked = 0
	}
}
