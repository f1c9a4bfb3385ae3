// Command publish publishes persistent, mandatory messages with message ids, with amqp091-go only and on one channel. It
// pipelines confirms within -window messages, which is the fastest way to use the library. With -window=1 it is the usual
// loop: publish, wait for the confirm, publish the next message.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

func main() { side.Main(run) }

func run(_ context.Context, t side.Task) (side.Result, error) {
	conn, err := amqp.Dial(t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return side.Result{}, err
	}
	if err := ch.Confirm(false); err != nil {
		return side.Result{}, err
	}
	// All messages are routable here, but a publisher of mandatory messages must handle returns.
	returns := ch.NotifyReturn(make(chan amqp.Return, t.Window))

	publish, queues, body := pipelined, t.QueueNames(), make([]byte, t.Size)
	if t.Window == 1 {
		publish = oneByOne
	}
	clock := side.Start()
	times, err := publish(ch, t, queues, body)
	result := clock.Stop(t.Messages)
	if err != nil {
		return side.Result{}, err
	}
	if len(returns) > 0 {
		return side.Result{}, fmt.Errorf("returned: %s", (<-returns).ReplyText)
	}
	if times != nil {
		result = result.WithLatencies(times)
	}
	return result, nil
}

func pipelined(ch *amqp.Channel, t side.Task, queues []string, body []byte) ([]time.Duration, error) {
	flight := make([]*amqp.DeferredConfirmation, t.Window)
	for i := range t.Messages {
		slot := i % t.Window
		if c := flight[slot]; c != nil && !c.Wait() {
			return nil, errors.New("not confirmed")
		}
		var err error
		flight[slot], err = ch.PublishWithDeferredConfirm("", queues[i%len(queues)], true, false, message(i, body))
		if err != nil {
			return nil, err
		}
	}
	for _, c := range flight {
		if c != nil && !c.Wait() {
			return nil, errors.New("not confirmed")
		}
	}
	return nil, nil
}

func oneByOne(ch *amqp.Channel, t side.Task, queues []string, body []byte) ([]time.Duration, error) {
	times := make([]time.Duration, t.Messages)
	for i := range times {
		began := time.Now()
		c, err := ch.PublishWithDeferredConfirm("", queues[i%len(queues)], true, false, message(i, body))
		if err != nil {
			return nil, err
		}
		if !c.Wait() {
			return nil, errors.New("not confirmed")
		}
		times[i] = time.Since(began)
	}
	return times, nil
}

func message(i int, body []byte) amqp.Publishing {
	return amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: side.MessageID(i), Body: body}
}
