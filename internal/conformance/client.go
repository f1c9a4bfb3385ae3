package conformance

import (
	"fmt"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A Conn is a connection of a script.
type Conn struct {
	*amqp.Connection
	s      *Script
	closed chan *amqp.Error
	socket net.Conn
}

// Open opens a channel and starts to collect its events.
func (c *Conn) Open() *Channel {
	c.s.tb.Helper()
	ch, err := c.Channel()
	c.s.Must(err)
	x := &Channel{Channel: ch, s: c.s, conn: c, events: make(chan string, 1000)}
	var ( // unbuffered and read by one select, so that events keep their order on the wire
		returns  = ch.NotifyReturn(make(chan amqp.Return))
		confirms = ch.NotifyPublish(make(chan amqp.Confirmation))
		cancels  = ch.NotifyCancel(make(chan string))
	)
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	go func() {
		for returns != nil || confirms != nil || cancels != nil {
			select {
			case r, ok := <-returns:
				if !ok {
					returns = nil
					continue
				}
				x.events <- fmt.Sprintf("returned: %d %s, exchange %q, key %q, body %s", r.ReplyCode, r.ReplyText, r.Exchange, r.RoutingKey, body(r.Body))
			case a, ok := <-confirms:
				if !ok {
					confirms = nil
					continue
				}
				x.events <- fmt.Sprintf("%s of %d", map[bool]string{true: "ack", false: "nack"}[a.Ack], a.DeliveryTag)
			case tag, ok := <-cancels:
				if !ok {
					cancels = nil
					continue
				}
				x.events <- "cancelled: " + tag
			}
		}
		if err := <-closed; err != nil {
			x.events <- "channel closed: " + failure(err)
		}
		close(x.events)
	}()
	return x
}

// Cut closes the socket without connection.close.
func (c *Conn) Cut() {
	c.s.tb.Helper()
	c.s.Must(c.socket.Close())
	c.s.tb.Logf("connection cut: %v", <-c.closed)
}

// Closed waits until the broker has closed the connection, and writes the reason.
func (c *Conn) Closed() {
	c.s.tb.Helper()
	select {
	case err := <-c.closed:
		c.s.Note("connection closed: %s", failure(err))
	case <-time.After(eventTimeout):
		c.s.Note("connection open")
	}
}

// A Channel is a channel of a script.
type Channel struct {
	*amqp.Channel
	s      *Script
	conn   *Conn
	events chan string // closed with the channel
}

// Queue declares a durable queue of type kind with additional arguments. It returns the name on the broker.
func (ch *Channel) Queue(name, kind string, args amqp.Table) string {
	ch.s.tb.Helper()
	all := amqp.Table{"x-queue-type": kind}
	for k, v := range args {
		all[k] = v
	}
	name = ch.s.Name(name)
	_, err := ch.QueueDeclare(name, true, false, false, false, all)
	ch.s.Must(err)
	return name
}

// Exchange declares a durable exchange of type kind. It returns the name on the broker.
func (ch *Channel) Exchange(name, kind string, args amqp.Table) string {
	ch.s.tb.Helper()
	name = ch.s.Name(name)
	ch.s.Must(ch.ExchangeDeclare(name, kind, true, false, false, false, args))
	return name
}

// Publish publishes a mandatory message.
func (ch *Channel) Publish(exchange, key string, m amqp.Publishing) {
	ch.s.tb.Helper()
	ch.s.Must(ch.PublishWithContext(ch.s.ctx, exchange, key, true, false, m))
}

// Store publishes persistent messages with these bodies to a queue. It returns after the broker has confirmed them.
// It does not put the channel into confirm mode.
func (ch *Channel) Store(queue string, bodies ...string) {
	ch.s.tb.Helper()
	for _, b := range bodies {
		ch.StoreMessage(queue, amqp.Publishing{Body: []byte(b), DeliveryMode: amqp.Persistent})
	}
}

// StoreMessage publishes a message to a queue. It returns after the broker has confirmed it.
func (ch *Channel) StoreMessage(queue string, m amqp.Publishing) {
	ch.s.tb.Helper()
	other, err := ch.conn.Channel()
	ch.s.Must(err)
	defer other.Close()
	ch.s.Must(other.Confirm(false))
	c, err := other.PublishWithDeferredConfirmWithContext(ch.s.ctx, "", queue, true, false, m)
	ch.s.Must(err)
	if ok, err := c.WaitContext(ch.s.ctx); err != nil || !ok {
		ch.s.tb.Fatalf("message was not stored: %v", err)
	}
}

// Event waits for the next return, confirm, cancellation or close of the channel, and writes it.
func (ch *Channel) Event() {
	ch.s.tb.Helper()
	ch.s.Note("%s", ch.event())
}

func (ch *Channel) event() string {
	ch.s.tb.Helper()
	select {
	case e, ok := <-ch.events:
		if !ok {
			e = "no more events"
		}
		return e
	case <-time.After(eventTimeout):
		ch.s.tb.Fatalf("timed out waiting for an event; transcript so far:\n%s", ch.s.lines.String())
		return ""
	}
}

// Sync returns after the broker has processed every earlier method of the channel.
func (ch *Channel) Sync() {
	ch.s.tb.Helper()
	ch.s.Must(ch.Qos(0, 0, false))
}

// Recover sends basic.recover.
func (ch *Channel) Recover(requeue bool) error {
	return ch.Channel.Recover(requeue) //nolint:staticcheck // deprecated, but RabbitMQ still has it
}

// State writes whether the channel and its connection are open. It first waits until the broker has processed every
// earlier method of the channel.
func (ch *Channel) State() {
	ch.s.tb.Helper()
	ch.s.Note("%s", ch.outcome(nil))
}

// outcome describes the result of an operation on the channel that returned err. If err is nil, it first waits until the
// broker has processed the operation.
func (ch *Channel) outcome(err error) string {
	if err == nil {
		if err = ch.Qos(0, 0, false); err == nil {
			return "ok"
		}
	}
	if ch.conn.IsClosed() {
		return "connection closed: " + failure(<-ch.conn.closed)
	}
	if !ch.IsClosed() {
		return "client: " + err.Error()
	}
	last := "channel closed"
	for e := range ch.events {
		last = e
	}
	return last
}

// Get requests a message with basic.get and writes the answer.
func (ch *Channel) Get(queue string) amqp.Delivery {
	ch.s.tb.Helper()
	d, ok, err := ch.Channel.Get(queue, false)
	switch {
	case err != nil:
		ch.s.Note("get from %s: %s", queue, ch.outcome(err))
	case !ok:
		ch.s.Note("get from %s: empty", queue)
	default:
		ch.s.Note("get from %s: %s, %d more", queue, message(d), d.MessageCount)
	}
	return d
}

// AwaitGet is like Get but waits until the queue has a message.
func (ch *Channel) AwaitGet(queue string) amqp.Delivery {
	ch.s.tb.Helper()
	d := ch.awaitGet(queue)
	ch.s.Note("get from %s: %s, %d more", queue, message(d), d.MessageCount)
	return d
}

// awaitGet is AwaitGet without output.
func (ch *Channel) awaitGet(queue string) amqp.Delivery {
	ch.s.tb.Helper()
	for end := time.Now().Add(eventTimeout); ; {
		d, ok, err := ch.Channel.Get(queue, false)
		ch.s.Must(err)
		if ok {
			return d
		}
		if time.Now().After(end) {
			ch.s.tb.Fatalf("timed out waiting for a message in %s; transcript so far:\n%s", queue, ch.s.lines.String())
		}
		time.Sleep(time.Millisecond)
	}
}

// A Consumer receives the deliveries of one subscription.
type Consumer struct {
	ch         *Channel
	tag        string
	deliveries <-chan amqp.Delivery
}

// Subscribe starts a consumer with this tag and manual acknowledgement.
func (ch *Channel) Subscribe(queue, tag string) *Consumer {
	ch.s.tb.Helper()
	return ch.SubscribeWith(queue, tag, nil)
}

// SubscribeWith is Subscribe with consumer arguments.
func (ch *Channel) SubscribeWith(queue, tag string, args amqp.Table) *Consumer {
	ch.s.tb.Helper()
	deliveries, err := ch.Consume(queue, tag, false, false, false, false, args)
	ch.s.Must(err)
	return &Consumer{ch, tag, deliveries}
}

// Next waits for the next delivery and writes it. If the consumer was cancelled, it writes "no more deliveries".
func (c *Consumer) Next() amqp.Delivery {
	c.ch.s.tb.Helper()
	d, ok := c.take()
	if !ok {
		c.ch.s.Note("%s: no more deliveries", c.tag)
		return d
	}
	c.ch.s.Note("%s gets %d: %s", c.tag, d.DeliveryTag, message(d))
	return d
}

// take waits for the next delivery and returns it without output. It returns false if the consumer was cancelled.
func (c *Consumer) take() (amqp.Delivery, bool) {
	c.ch.s.tb.Helper()
	select {
	case d, ok := <-c.deliveries:
		return d, ok
	case <-time.After(eventTimeout):
		c.ch.s.tb.Fatalf("timed out waiting for a delivery to %s; transcript so far:\n%s", c.tag, c.ch.s.lines.String())
		return amqp.Delivery{}, false
	}
}
