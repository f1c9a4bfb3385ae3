package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/wire"
	"github.com/amqpkit/amqpkit/producer"
)

const (
	window   = 1024 // messages in flight, amqpkit's default
	prefetch = 300
)

type env struct {
	url, queue string
	messages   int
	body       []byte
}

// prepare leaves the queue empty for publishing, and full for consuming.
func (e *env) prepare(s side) error {
	ac, err := amqp.Dial(e.url)
	if err != nil {
		return err
	}
	defer ac.Close()
	ch, err := ac.Channel()
	if err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(e.queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
		return err
	}
	if _, err := ch.QueuePurge(e.queue, false); err != nil {
		return err
	}
	if strings.HasPrefix(s.name, "consume") {
		return publishOn(ac, e)
	}
	return nil
}

// dial opens a connection with amqp091-go.
type dial func(url string) (*amqp.Connection, error)

func plainSocket(url string) (*amqp.Connection, error) { return amqp.Dial(url) }

func transport(url string) (*amqp.Connection, error) {
	uri, err := amqp.ParseURI(url)
	if err != nil {
		return nil, err
	}
	nc, err := new(net.Dialer).DialContext(context.Background(), "tcp", net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)))
	if err != nil {
		return nil, err
	}
	link := wire.NewLink(nc)
	ac, err := amqp.Open(wire.NewTransport(link), amqp.Config{SASL: []amqp.Authentication{uri.PlainAuth()}, Vhost: uri.Vhost})
	if err == nil {
		link.Bound(ac.Config.Heartbeat * 3 / 2)
	}
	return ac, err
}

func publishRaw(d dial) func(context.Context, *env) error {
	return func(_ context.Context, e *env) error {
		ac, err := d(e.url)
		if err != nil {
			return err
		}
		defer ac.Close()
		return publishOn(ac, e)
	}
}

// publishOn is what a good program does with amqp091-go alone: confirms, pipelined within a window.
func publishOn(ac *amqp.Connection, e *env) error {
	ch, err := ac.Channel()
	if err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	flight := make([]*amqp.DeferredConfirmation, window)
	for i := range e.messages + window {
		if c := flight[i%window]; c != nil && !c.Wait() {
			return errors.New("not confirmed")
		}
		flight[i%window] = nil
		if i >= e.messages {
			continue
		}
		flight[i%window], err = ch.PublishWithDeferredConfirm("", e.queue, true, false, amqp.Publishing{
			MessageId: fmt.Sprint("cost-", i), DeliveryMode: amqp.Persistent, Body: e.body,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func publishAmqpkit(ctx context.Context, e *env) error {
	conn, err := amqpkit.Dial(ctx, e.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	receipts := make([]*producer.Receipt, e.messages)
	for i := range receipts {
		if receipts[i], err = p.PublishAsync(ctx, "", e.queue, amqp.Publishing{Body: e.body}); err != nil {
			return err
		}
	}
	for _, r := range receipts {
		if err := r.Wait(ctx); err != nil {
			return err
		}
	}
	return p.Close(ctx)
}

func consumeRaw(d dial) func(context.Context, *env) error {
	return func(_ context.Context, e *env) error {
		ac, err := d(e.url)
		if err != nil {
			return err
		}
		defer ac.Close()
		ch, err := ac.Channel()
		if err != nil {
			return err
		}
		if err := ch.Qos(prefetch, 0, false); err != nil {
			return err
		}
		deliveries, err := ch.Consume(e.queue, "cost", false, false, false, false, nil)
		if err != nil {
			return err
		}
		for range e.messages {
			d, ok := <-deliveries
			if !ok {
				return errors.New("the deliveries ended")
			}
			if err := d.Ack(false); err != nil {
				return err
			}
		}
		return ch.Cancel("cost", false) // so that the acknowledgements are taken
	}
}

func consumeAmqpkit(ctx context.Context, e *env) error {
	conn, err := amqpkit.Dial(ctx, e.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	running, stop := context.WithCancel(ctx)
	defer stop()
	var n atomic.Int64
	c, err := consumer.New(conn, consumer.Config{Queue: e.queue, Prefetch: prefetch}, func(context.Context, *consumer.Delivery) error {
		if n.Add(1) == int64(e.messages) {
			stop()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.Run(running)
}
