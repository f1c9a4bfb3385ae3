// Command both publishes to a queue and consumes from it concurrently, with amqp091-go only. It uses two connections, so
// that flow control of the publisher does not delay acks. Confirms are pipelined; each delivery is acknowledged
// individually.
package main

import (
	"context"
	"errors"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

func main() { side.Main(run) }

func run(_ context.Context, t side.Task) (side.Result, error) {
	publishing, err := open(t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer publishing.conn.Close()
	consuming, err := open(t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer consuming.conn.Close()

	queue, body := t.QueueNames()[0], make([]byte, t.Size)
	published := make(chan error, 1)
	clock := side.Start()
	go func() { published <- publish(publishing.ch, t, queue, body) }()
	err = consume(consuming.ch, t, queue)
	if err == nil {
		err = <-published
	}
	result := clock.Stop(t.Messages)
	if err != nil {
		return side.Result{}, err
	}
	return result, consuming.ch.Cancel("bench", false)
}

type client struct {
	conn *amqp.Connection
	ch   *amqp.Channel
}

func open(url string) (client, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return client{}, err
	}
	ch, err := conn.Channel()
	return client{conn, ch}, err
}

func publish(ch *amqp.Channel, t side.Task, queue string, body []byte) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	returns := ch.NotifyReturn(make(chan amqp.Return, t.Window))
	flight := make([]*amqp.DeferredConfirmation, t.Window)
	for i := range t.Messages {
		slot := i % t.Window
		if c := flight[slot]; c != nil && !c.Wait() {
			return errors.New("not confirmed")
		}
		var err error
		flight[slot], err = ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, MessageId: side.MessageID(i), Body: body,
		})
		if err != nil {
			return err
		}
	}
	for _, c := range flight {
		if c != nil && !c.Wait() {
			return errors.New("not confirmed")
		}
	}
	if len(returns) > 0 {
		return errors.New("returned")
	}
	return nil
}

func consume(ch *amqp.Channel, t side.Task, queue string) error {
	if err := ch.Qos(t.Prefetch, 0, false); err != nil {
		return err
	}
	var args amqp.Table
	if t.Stream {
		args = amqp.Table{"x-stream-offset": "first"}
	}
	deliveries, err := ch.Consume(queue, "bench", false, false, false, false, args)
	if err != nil {
		return err
	}
	for range t.Messages {
		d, ok := <-deliveries
		if !ok {
			return errors.New("the delivery channel was closed")
		}
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	return nil
}
