package consumer

import (
	"context"
	"crypto/rand"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// A firstMessage is the first message of a session's stream, which identifies the stream. It is read over a second
// channel.
type firstMessage struct {
	ch         *amqp.Channel
	deliveries <-chan amqp.Delivery
	awaited    bool // the message was requested and has not arrived
	redeclared bool // it belongs to another stream than the previous first message
}

// request requests the message. If RabbitMQ refuses that, a redeclared stream is not recognised.
func (f *firstMessage) request(ctx context.Context, c *channel) {
	f.awaited = true
	var err error
	if f.ch, err = wire.Channel(ctx, c.ac); err == nil {
		f.deliveries, err = wire.Call(ctx, c.ac, func() (<-chan amqp.Delivery, error) {
			if err := f.ch.Qos(1, 0, false); err != nil {
				return nil, err
			}
			return f.ch.Consume(c.queue, "first-"+rand.Text()[:tagSuffix], false, false, false, false, amqp.Table{streamOffset: "first"})
		})
	}
	if err != nil {
		c.log.DebugContext(c.state.ctx(), "consumer: the stream's first message cannot be read", "error", err)
	}
}

// arrive compares the message with the first message of the previous subscription. An error means that the stream was
// redeclared.
func (f *firstMessage) arrive(d *amqp.Delivery, c *channel) error {
	f.deliveries, f.awaited = nil, false
	f.close(c)
	err := c.state.position.begins(c.queue, d)
	f.redeclared = err != nil
	return err
}

func (f *firstMessage) close(c *channel) {
	if f.ch == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := wire.Do(ctx, c.ac, f.ch.Close); err != nil {
		c.log.DebugContext(c.state.ctx(), "consumer: channel not closed cleanly", "error", err)
	}
	f.ch = nil
}
