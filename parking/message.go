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
	Publishing                amqp.Publishing // the message as it is in the queue, with all headers
	Queue                     string          // the queue whose handler failed, or in which RabbitMQ dead-lettered the message; empty if unknown
	Exchange, Key             string          // the exchange and the routing key to which it was published; of the delivery if Queue is unknown
	Attempts                  int             // failed attempts; zero if unknown
	FirstFailure, LastFailure time.Time       // zero if unknown
	Error, ErrorType          string          // text and Go type of the last error
	History                   []string        // the last ten failures and replays, one line each

	// Reason is why the message was parked. A retry plan writes attempts (the last one has failed), age (the next attempt would exceed
	// MaxAge), after (the handler asked for a longer delay than the plan has), permanent, rejected, or rule. RabbitMQ writes
	// delivery_limit, expired, rejected or maxlen.
	Reason string
}

// newMessage reads the record of a message in a parking queue.
func newMessage(d *amqp.Delivery) Message {
	r := history.Parked(d)
	m := Message{
		Publishing: history.Publishing(d), Queue: r.Queue, Exchange: r.Exchange, Key: r.Key, Attempts: r.Attempts,
		FirstFailure: r.First, LastFailure: r.Last, Error: r.Error, ErrorType: r.ErrorType, Reason: r.Reason,
	}
	if r.Queue == "" {
		m.Exchange, m.Key = d.Exchange, d.RoutingKey
	}
	for _, e := range r.Entries {
		m.History = append(m.History, fmt.Sprint(e))
	}
	return m
}

// String returns one line about the message, without its body and headers. Names and texts are quoted or escaped, because anybody may have
// written them.
func (m Message) String() string {
	return fmt.Sprintf("message %q from queue %q, %d attempts, %s: %s",
		m.Publishing.MessageId, m.Queue, m.Attempts, validate.Printable(m.Reason), validate.Printable(m.Error))
}

// Peek returns the first n messages of a parking queue, or of any other queue except a stream, and leaves them there. RabbitMQ before 4.3
// moves them to the tail of a queue without a delivery limit, such as a retry plan's parking queue, and RabbitMQ 4.3 may change the order of
// more than 32. A queue with a delivery limit may drop a message: RabbitMQ before 4.3 counts each Peek as a delivery, later ones a lost connection.
//
// Messages with unreadable headers are left out and reported by a *[SkippedError]. A message that RabbitMQ cannot deliver is reported by a
// *[BlockedError]. The other messages are returned together with the error.
func Peek(ctx context.Context, conn consumer.Connection, queue string, n int) (messages []Message, err error) {
	err = Walk(ctx, conn, queue, n, func(m Message) error {
		messages = append(messages, m)
		return nil
	})
	return messages, err
}

// Walk is Peek for a queue whose messages do not fit into memory: it calls f for each message, in their order, and stops at an error of f, which it
// returns. It holds the messages at RabbitMQ until it returns, at most for the time of [ErrScanTimeout].
func Walk(ctx context.Context, conn consumer.Connection, queue string, n int, f func(Message) error) (err error) {
	if n < 0 {
		err = fieldError("n", fmt.Sprintf("%d is negative", n), "write the number of messages to read")
	}
	s, err := newScan(ctx, conn, "queue", queue, err)
	if err != nil {
		return err
	}
	defer func() { err = s.close(ctx, err) }()
	for ; n > 0; n-- {
		d, err := s.next(ctx)
		if err != nil || d == nil {
			return err
		}
		if err := f(newMessage(d)); err != nil {
			return err
		}
	}
	return nil
}
