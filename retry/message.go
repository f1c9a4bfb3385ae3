package retry

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/logs"
)

// A Publisher publishes received messages again; *producer.Producer is one. Republish publishes with the mandatory flag and returns
// nil only if the message was routed to a queue and confirmed. If it cannot send a header, it returns a
// *[amqperr.FieldError] for that field, and the Plan publishes the message without that header.
type Publisher interface {
	Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error
}

// A runner is the middleware of a plan for a Publisher.
type runner struct {
	*Plan
	to       Publisher
	log      *slog.Logger
	warnings logs.Limiter
}

// A message is a delivery on its way through the middleware.
type message struct {
	*runner
	d      *consumer.Delivery
	record history.Record
	id     string        // see messageID
	waited time.Duration // in the worker, between attempts

	// The last attempt. Its goroutine writes these fields and ends before they are read.
	ended    sync.WaitGroup
	returned bool // false after runtime.Goexit
	view     consumer.Delivery
	result   error
	failure  *failure // nil if the message did not fail
}

// messageID returns the id of the message, or a new one for its copies.
func (m *message) messageID() string {
	if m.id == "" {
		m.id = cmp.Or(m.d.MessageId, rand.Text())
	}
	return m.id
}

func (m *message) logAt(ctx context.Context, level slog.Level, text string, attrs ...slog.Attr) {
	m.log.LogAttrs(ctx, level, text, m.attrs("error", attrs...)...)
}

// attrs returns the attributes of a log line about the message. The last error of its handlers gets the key errorKey.
func (m *message) attrs(errorKey string, more ...slog.Attr) []slog.Attr {
	attrs := []slog.Attr{slog.String("queue", m.d.Queue), slog.String("message_id", m.messageID()), slog.Int("attempt", m.record.Attempts)}
	if m.record.Error != "" {
		attrs = append(attrs, slog.String(errorKey, m.record.Error))
	}
	if m.failure != nil && m.failure.stack != nil {
		attrs = append(attrs, slog.String("stack", string(m.failure.stack)))
	}
	return append(attrs, more...)
}
