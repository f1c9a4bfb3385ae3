package parking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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

	// Match selects messages; the others stay parked. Nil selects all. It must not block on user input, because up to 64 messages are
	// unacknowledged meanwhile.
	Match func(Message) bool

	// To returns the exchange and the routing key to which a message is published. A message for which both are empty stays parked. Nil means
	// the queue whose handler failed, and no other queue that received the message. The original address is m.Exchange
	// and m.Key; from there the message reaches every queue that is bound.
	To func(m Message) (exchange, key string)

	// Limit is the maximum number of messages to replay. Zero means no limit.
	Limit int

	// Rate is the maximum number of messages per second. Rates below one message per day count as one per day. Zero means no limit.
	Rate float64

	// DryRun counts the messages and publishes none.
	DryRun bool

	// Logger receives a line for each message that is published without a part, for example a header that does not fit into a frame. Nil
	// means the Logger of the Conn, or slog.Default.
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

// A Publisher publishes received messages again. *producer.Producer is one. RepublishAsync publishes in the order of its calls. Wait returns
// nil only if the message was routed to a queue and confirmed. If RepublishAsync or Wait refuses a header with a *[amqperr.FieldError], the
// message is published without that header.
type Publisher[R receipt] interface {
	RepublishAsync(ctx context.Context, exchange, key string, msg amqp.Publishing) (R, error)
}

type receipt interface {
	Wait(ctx context.Context) error
}

// Replay publishes parked messages again, as they were before their first attempt and with their history, in the order of the queue and 64 at
// a time. A message leaves the parking queue only after RabbitMQ has confirmed its copy. Messages that are parked during the replay
// stay parked.
//
// An interrupted Replay loses no message and can be run again. Messages of the last batch may then be published twice, with the same message id.
//
// A message that cannot be read or published stays parked: its queue is missing or full, or the Publisher refuses it. Replay continues with
// the next one, and reports such messages at the end with a *[SkippedError]. If the outcome of a publish is unknown, the message may be in
// both queues.
//
// Replay ends early with the end of ctx, a closed Producer, the loss of the connection that it reads from, a *[BlockedError], or
// [ErrScanTimeout] if messages stay parked and it takes more than ten minutes.
func Replay[R receipt](ctx context.Context, conn consumer.Connection, to Publisher[R], c ReplayConfig) (r ReplayResult, err error) {
	if c.Limit < 0 {
		err = fieldError("Limit", fmt.Sprintf("%d is negative", c.Limit), "write 0 for no limit")
	}
	if !(c.Rate >= 0) { // NaN too
		err = errors.Join(err, fieldError("Rate", fmt.Sprintf("%v is not a rate", c.Rate), "write messages per second, or 0 for no limit"))
	}
	if err != nil {
		return r, err
	}
	s, err := newScan(ctx, conn, c.Queue)
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
	for s.left > 0 && (c.Limit == 0 || r.Replayed < c.Limit) {
		if c.Limit > 0 {
			size = min(size, c.Limit-r.Replayed)
		}
		wait := time.Until(next)
		if s.expires(wait) {
			return r, ErrScanTimeout
		}
		if err := sleep(ctx, wait); err != nil {
			return r, err
		}
		read, err := s.batch(ctx, size)
		var blocked *BlockedError
		if errors.As(err, &blocked) && len(read) > 0 { // read one at a time to reach every message before the blocking one
			size, r.Kept = 1, 0
			if err := s.restart(ctx); err != nil {
				return r, err
			}
			continue
		}
		if err != nil {
			return r, err
		}
		batch := c.choose(read)
		r.Kept += len(read) - len(batch)
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

// batch returns the next messages, at most n. At an error it returns the ones that it has read.
func (s *scan) batch(ctx context.Context, n int) (read []*amqp.Delivery, err error) {
	for len(read) < n {
		d, err := s.next(ctx)
		if err != nil || d == nil {
			return read, err
		}
		read = append(read, d)
	}
	return read, nil
}

// An outgoing message is published again.
type outgoing struct {
	delivery      *amqp.Delivery // in the parking queue
	exchange, key string
	copy          *history.Copy
	err           error // of publishing it
}

// choose returns the deliveries to publish.
func (c *ReplayConfig) choose(read []*amqp.Delivery) (batch []*outgoing) {
	for _, d := range read {
		m := newMessage(d)
		if c.Match != nil && !c.Match(m) {
			continue
		}
		exchange, key := "", m.Queue
		if c.To != nil {
			exchange, key = c.To(m)
		}
		if exchange != "" || key != "" {
			batch = append(batch, &outgoing{delivery: d, exchange: exchange, key: key, copy: m.replayed(time.Now())})
		}
	}
	return batch
}

// publish publishes a batch and waits for the outcomes. Messages of which a header is refused are published again without it.
func publish[R receipt](ctx context.Context, to Publisher[R], batch []*outgoing) {
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
		if err == nil {
			m.copy.Log(ctx, log.With("to", cmp.Or(m.exchange, m.key)), "parking: message changed by its replay")
			if err = s.ack(ctx, m.delivery); err == nil {
				replayed++
			} else {
				fatal = cmp.Or(fatal, fmt.Errorf("parking: message %s was replayed and is still parked: %w", id, s.cause(err)))
			}
			continue
		}
		err = fmt.Errorf("message %s stays parked: %w", id, err)
		if ctx.Err() == nil && !isClosed(err) {
			s.skipped.add(err)
		} else {
			fatal = cmp.Or(fatal, fmt.Errorf("parking: %w", err))
		}
	}
	return replayed, fatal
}

// isClosed reports whether a Publisher's error says that it was closed.
func isClosed(err error) bool {
	var closed interface{ Closed() bool }
	return errors.As(err, &closed) && closed.Closed()
}
