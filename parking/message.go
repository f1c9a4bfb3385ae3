package parking

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Message is a message in a parking queue, with the record of its failures from its headers.
type Message struct {
	Publishing amqp.Publishing // the message as it is in the queue, with all headers

	Queue         string // the queue whose handler failed, or in which RabbitMQ dead-lettered the message; empty if unknown
	Exchange, Key string // the exchange and the routing key to which it was published

	Attempts                  int       // failed attempts; zero if unknown
	FirstFailure, LastFailure time.Time // zero if unknown
	Error, ErrorType          string    // text and Go type of the last error
	History                   []string  // the last ten failures and replays, one line each

	// Reason is why the message was parked. Of a retry plan: attempts (the last one has failed), age (the next attempt would exceed
	// MaxAge), after (the handler asked for a longer delay than the plan has), permanent, rejected, rule, or redelivered (RabbitMQ has
	// counted too many failed deliveries). Of RabbitMQ: delivery_limit, expired, rejected or maxlen.
	Reason string
}

// newMessage reads the record of a message in a parking queue.
func newMessage(d *amqp.Delivery) Message {
	m := Message{Publishing: history.Publishing(d)}
	own := history.Latest(d.Headers)
	if m.Queue = history.Text(own, history.HeaderQueue); m.Queue == "" {
		return m
	}
	of := *d
	of.Headers = own
	r := history.Read(&of, m.Queue)
	m.Exchange, m.Key, m.Attempts, m.FirstFailure, m.LastFailure = r.Exchange, r.Key, r.Attempts, r.First, r.Last
	m.Error, m.ErrorType, m.Reason = r.Error, r.ErrorType, history.Text(own, history.HeaderReason)
	for _, e := range r.Entries {
		m.History = append(m.History, fmt.Sprint(e))
	}
	return m
}

// replayed returns the copy that is published again: its attempts start at one, its history is kept.
func (m *Message) replayed(now time.Time) *history.Copy {
	old := history.Latest(m.Publishing.Headers)
	own := amqp.Table{
		history.HeaderQueue: m.Queue, history.HeaderExchange: m.Exchange, history.HeaderKey: m.Key,
		history.HeaderHistory: history.Append(old[history.HeaderHistory], history.Stamp(now)+" replayed"),
	}
	for _, name := range []string{history.HeaderCC, history.HeaderExpiration, history.HeaderUserID, history.HeaderDropped} {
		if v, ok := old[name]; ok {
			own[name] = v
		}
	}
	return history.NewCopy(m.Publishing, own)
}

// String returns one line about the message, without its body and headers. Names and texts are quoted or escaped, because anybody may have
// written them.
func (m Message) String() string {
	return fmt.Sprintf("message %q from queue %q, %d attempts, %s: %s",
		m.Publishing.MessageId, m.Queue, m.Attempts, validate.Printable(m.Reason), validate.Printable(m.Error))
}

// Peek returns the first n messages of a parking queue, or of any other queue except a stream, and leaves them there. RabbitMQ before 4.3
// moves them to the tail of a queue without a delivery limit, such as a retry plan's parking queue. It counts each Peek as a delivery, and
// so does RabbitMQ 4.3 if the connection is lost: a queue with a delivery limit may drop a message.
//
// Messages that cannot be read are left out and reported by a *[SkippedError]. A message that RabbitMQ cannot deliver is reported by a
// *[BlockedError]. The other messages are returned together with the error.
func Peek(ctx context.Context, conn consumer.Connection, queue string, n int) (messages []Message, err error) {
	err = walk(ctx, conn, queue, n, func(d *amqp.Delivery) error {
		messages = append(messages, newMessage(d))
		return nil
	})
	return messages, err
}

// walk calls f for the first n readable messages of a queue, and leaves them there.
func walk(ctx context.Context, conn consumer.Connection, queue string, n int, f func(*amqp.Delivery) error) (err error) {
	s, err := newScan(ctx, conn, queue)
	if err != nil {
		return err
	}
	defer func() { err = s.close(ctx, err) }()
	for ; n > 0; n-- {
		d, err := s.next(ctx)
		if err != nil || d == nil {
			return err
		}
		if err := f(d); err != nil {
			return err
		}
	}
	return nil
}
