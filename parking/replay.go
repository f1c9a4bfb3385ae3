package parking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// ReplayConfig selects the messages of a replay and their targets. Queue is required.
type ReplayConfig struct {
	// Queue is the parking queue.
	Queue string

	// Match selects messages; the others stay parked. Nil selects all. It must not block: up to 64 messages are unacknowledged meanwhile.
	Match func(Message) bool

	// To returns the exchange and the routing key to which a message is published. If both are empty, it stays parked. Nil means only the queue
	// whose handler failed. From the original address, m.Exchange and m.Key, the message would reach every bound queue.
	To func(m Message) (exchange, key string)

	// Limit is the maximum number of messages to replay. Zero means no limit.
	Limit int

	// Rate is the maximum number of messages per second. Zero means no limit; a rate below one message per day counts as that.
	Rate float64

	// DryRun counts the messages and publishes none.
	DryRun bool

	// Logger receives a warning for each copy without a header that did not fit into a frame. Nil means the Logger of the Conn, or slog.Default.
	Logger *slog.Logger

	// Progress, if set, is called with the counts so far after each batch of up to 64 messages.
	Progress func(ReplayResult)
}

// A ReplayResult counts messages. Kept and skipped messages are still parked.
type ReplayResult struct {
	Total    int // messages in the parking queue at the start
	Replayed int // published and removed from the parking queue; in a dry run, messages to publish
	Kept     int // not selected, or of unknown origin
	Skipped  int // not readable or not published, see SkippedError
}

// A Publisher publishes received messages again, in the order of the calls. *producer.Producer is one. Wait returns nil only if the message
// was routed to a queue and confirmed. If a header is refused with a *[amqperr.FieldError], the message is published without it.
type Publisher[R interface{ Wait(context.Context) error }] interface {
	RepublishAsync(ctx context.Context, exchange, key string, msg amqp.Publishing) (R, error)
}

// Replay publishes parked messages again, as they were before their first attempt and with their history, in the order of the queue and 64 at a
// time. A message leaves the parking queue only after RabbitMQ has confirmed its copy. Messages that are parked during the replay stay parked. An
// interrupted Replay loses no message and can be run again. Messages of the last batch may then be published twice, with the same message id.
//
// A message stays parked if its headers are unreadable, its target queue is missing or full, or the Publisher refuses it. Replay continues with the
// next one, and reports such messages at the end with a *[SkippedError]. If the outcome of a publish is unknown, the message may be in both queues.
//
// Replay ends early with the end of ctx, a closed Producer, the loss of the connection that it reads from, a *[BlockedError], or [ErrScanTimeout]
// if messages stay parked and it takes more than ten minutes.
func Replay[R interface{ Wait(context.Context) error }](ctx context.Context, conn consumer.Connection, to Publisher[R], c ReplayConfig) (r ReplayResult, err error) {
	if c.Limit < 0 {
		err = fieldError("Limit", fmt.Sprintf("%d is negative", c.Limit), "write 0 for no limit")
	}
	if !(c.Rate >= 0) { // NaN too
		err = errors.Join(err, fieldError("Rate", fmt.Sprintf("%v is not a rate", c.Rate), "write messages per second, or 0 for no limit"))
	}
	s, err := newScan(ctx, conn, "Queue", c.Queue, err)
	if err != nil {
		return r, err
	}
	defer func() { r.Skipped, err = s.skipped.Count, s.close(ctx, err) }()
	r.Total = s.left
	size, interval, next := batchSize, time.Duration(0), time.Now()
	if c.Rate > 0 {
		size = int(min(max(c.Rate/10, 1), batchSize)) // keeps the rate in steps of a tenth of a second
		interval = time.Duration(min(float64(time.Second)/c.Rate, float64(24*time.Hour)))
	}
	log := logs.For(c.Logger, conn).With("queue", c.Queue)
	limit := cmp.Or(c.Limit, math.MaxInt)
	for s.left > 0 && r.Replayed < limit {
		size = min(size, limit-r.Replayed)
		wait := time.Until(next)
		if s.expires(wait) {
			return r, ErrScanTimeout
		}
		if err := sleep(ctx, wait); err != nil {
			return r, err
		}
		batch, read, err := c.read(ctx, s, size)
		var blocked *BlockedError
		if errors.As(err, &blocked) && read > 0 { // read one at a time to reach every message before the blocking one
			size, r.Kept, err = 1, 0, s.restart(ctx)
			if c.DryRun {
				r.Replayed = 0
			}
			batch, read = nil, 0
		}
		if err != nil {
			return r, err
		}
		r.Kept += read - len(batch)
		if c.DryRun {
			r.Replayed += len(batch)
		} else {
			next = time.Now().Add(time.Duration(len(batch)) * interval)
			publish(ctx, to, batch)
			replayed, err := s.settle(ctx, batch, log)
			r.Replayed += replayed
			if err != nil {
				return r, err
			}
		}
		if r.Skipped = s.skipped.Count; c.Progress != nil {
			c.Progress(r)
		}
	}
	return r, nil
}

// An outgoing message is published again.
type outgoing struct {
	delivery      *amqp.Delivery // in the parking queue
	exchange, key string
	copy          *history.Copy
	err           error // of publishing it
}

// read reads up to n messages, and returns the ones to publish and the number of all.
func (c *ReplayConfig) read(ctx context.Context, s *scan, n int) (batch []*outgoing, read int, err error) {
	for ; read < n; read++ {
		d, err := s.next(ctx)
		if err != nil || d == nil {
			return batch, read, err
		}
		m := newMessage(d)
		if c.Match != nil && !c.Match(m) {
			continue
		}
		exchange, key := "", m.Queue
		if c.To != nil {
			exchange, key = c.To(m)
		}
		if exchange != "" || key != "" {
			batch = append(batch, &outgoing{delivery: d, exchange: exchange, key: key, copy: history.Replayed(d, time.Now())})
		}
	}
	return batch, read, nil
}

// publish publishes a batch and waits for the outcomes. Messages of which a header is refused are published again without it.
func publish[R interface{ Wait(context.Context) error }](ctx context.Context, to Publisher[R], batch []*outgoing) {
	for len(batch) > 0 {
		receipts := make([]R, len(batch))
		for i, m := range batch {
			receipts[i], m.err = to.RepublishAsync(ctx, m.exchange, m.key, m.copy.Publishing())
		}
		var again []*outgoing
		for i, m := range batch {
			if m.err == nil {
				m.err = receipts[i].Wait(ctx)
			}
			if m.err != nil && m.copy.Concede(m.err) {
				again = append(again, m)
			}
		}
		batch = again
	}
}

// settle acknowledges the published messages of a batch. The others are skipped, or end the replay with an error.
func (s *scan) settle(ctx context.Context, batch []*outgoing, log *slog.Logger) (replayed int, fatal error) {
	for _, m := range batch {
		id, err := validate.Quote(m.delivery.MessageId), m.err
		var closed interface{ Closed() bool } // a closed Publisher's error
		switch {
		case err == nil:
			m.copy.Log(ctx, log.With("to", cmp.Or(m.exchange, m.key)), "parking: message changed by its replay")
			if err = s.ack(ctx, m.delivery); err == nil {
				replayed++
			} else {
				fatal = cmp.Or(fatal, fmt.Errorf("parking: message %s was replayed and is still parked: %w", id, s.cause(err)))
			}
		case ctx.Err() != nil || errors.As(err, &closed) && closed.Closed():
			fatal = cmp.Or(fatal, fmt.Errorf("parking: message %s stays parked: %w", id, validate.Unprefixed(err)))
		default:
			s.skipped.add(fmt.Errorf("message %s stays parked: %w", id, validate.Unprefixed(err)))
		}
	}
	return replayed, fatal
}
