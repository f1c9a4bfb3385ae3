package parking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// replayWindow is how many messages are on their way at a time.
const replayWindow = 64

// maxInterval is the longest time between two messages, about ten years.
const maxInterval = 315_360_000_000 * time.Millisecond

// ReplayConfig says what Replay brings back, and where to. Queue is required.
type ReplayConfig struct {
	// Queue is the parking queue.
	Queue string

	// Match chooses the messages; the others stay. Nil means all. Up to 64 messages are in hand while it is asked, and
	// RabbitMQ's consumer timeout runs (see Hold): it should not ask somebody.
	Match func(Message) bool

	// To says where a message goes; nothing for both leaves it parked. Nil means the queue whose handler failed, and
	// no other that got the message as well. Its original place is m.Exchange and m.Key, and from there it
	// reaches every queue that is bound.
	To func(m Message) (exchange, key string)

	// Limit is how many messages are brought back at most; messages that could not be published do not count. Zero means all
	// that are there at the start: what is parked again meanwhile stays.
	Limit int

	// Rate is how many messages a second go back at most, also less than one. Zero means no bound.
	Rate float64

	// Hold is how long a message is kept in hand at most. What stays (Match) is held while the others are
	// brought back, and RabbitMQ takes back what is held for longer than its consumer timeout, 30 minutes unless it is told
	// otherwise. So after this time everything is given back; RabbitMQ delivers it again, and it is passed over, not looked at
	// once more. Zero means ten minutes; set it where the queue's timeout is shorter than 15.
	Hold time.Duration

	// DryRun only counts: nothing is published, and the Publisher may be nil.
	DryRun bool

	// Logger receives what a copy lacks, such as a header that does not fit into a frame. Nil means slog.Default().
	Logger *slog.Logger

	// Progress, if set, is called after each batch of up to 64 messages, with the counts so far.
	Progress func(ReplayResult)
}

func (c ReplayConfig) validate() error {
	var errs []error
	if c.Limit < 0 {
		errs = append(errs, fault("Limit", fmt.Sprintf("%d is negative", c.Limit), "write 0 for all"))
	}
	if !(c.Rate >= 0) { // NaN too
		errs = append(errs, fault("Rate", fmt.Sprintf("%v is no rate", c.Rate), "write messages per second, or 0 for no bound"))
	}
	if c.Rate > 0 && float64(time.Second)/c.Rate > float64(maxInterval) {
		errs = append(errs, fault("Rate", fmt.Sprintf("%v is less than one message in ten years", c.Rate), "write messages per second, or 0 for no bound"))
	}
	if c.Hold < 0 {
		errs = append(errs, fault("Hold", fmt.Sprintf("%v is negative", c.Hold), "write 0 for ten minutes"))
	}
	return errors.Join(errs...)
}

// A ReplayResult counts messages.
type ReplayResult struct {
	Total    int // in the parking queue at the start
	Seen     int // of these, so far: each is Replayed, Kept or Failed, unless Replay was interrupted
	Replayed int // back at work, and gone from the parking queue; in a dry run those that would be
	Kept     int // not chosen, or of unknown origin: still parked
	Failed   int // could not be published: still parked

	Unreadable int // with headers that cannot be read: still parked, and named by the error
}

// Replay brings parked messages back to work. Each is published again as it was before its first attempt, with its
// history, and leaves the parking queue when that is confirmed. Whatever interrupts it (ctx, a lost connection), no message
// is lost: unconfirmed messages are still parked, and Replay can be run again. Messages that were confirmed just then may be
// there twice, with one message id. So may a skipped message whose outcome is unknown.
//
// They go back in any order, 64 at a time; in that of the queue with [InOrder].
//
// A message that cannot be published stays parked: its queue was deleted, or is full, or the Publisher refuses the message. Replay
// tries it once, continues with the next one, and reports these at the end with a *[SkippedError]. A message whose headers cannot
// be read stays parked too; the error at the end has a *consumer.UnreadableError for each.
//
// Only the end of ctx, a closed Producer, the loss of the connection that it reads from, and a message that RabbitMQ cannot
// deliver end Replay earlier; the last with a *[BlockedError], when the messages in front of it are back. On RabbitMQ before 4.3 a
// replay of more than ReplayConfig.Hold may end with [ErrWorn].
func Replay(ctx context.Context, conn consumer.Connection, to Publisher, c ReplayConfig) (r ReplayResult, err error) {
	if err := c.validate(); err != nil {
		return r, err
	}
	l, err := lookInto(ctx, conn, c.Queue, cmp.Or(c.Hold, defaultHold))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.stays(), l.close(ctx)) }()
	var skipped SkippedError
	defer func() { err = errors.Join(skipped.err(), err) }()
	r.Total = l.left
	pace := newPace(c.Rate)
	for l.left > 0 {
		n := pace.batch
		if c.Limit > 0 {
			n = min(n, c.Limit-r.Replayed)
		}
		if n > 0 && !c.DryRun {
			if err := l.pause(ctx, pace.left()); err != nil {
				return r, err
			}
		}
		ds, err := l.next(ctx, n)
		r.Seen += len(l.unreadable) - r.Unreadable
		r.Unreadable = len(l.unreadable)
		if err != nil || len(ds) == 0 {
			return r, err
		}
		var batch []returning
		for i := range ds {
			r.Seen++
			if b, ok := c.choose(&ds[i]); ok {
				batch = append(batch, b)
			} else {
				r.Kept++
			}
		}
		if c.DryRun {
			r.Replayed += len(batch)
		} else {
			pace.spend(len(batch))
			earlier := skipped.Count
			done, err := c.send(ctx, l, to, batch, &skipped)
			r.Replayed += done
			r.Failed += skipped.Count - earlier
			if err != nil {
				return r, err
			}
		}
		if c.Progress != nil {
			c.Progress(r)
		}
	}
	return r, nil
}

// A returning message is on its way back.
type returning struct {
	d             amqp.Delivery
	exchange, key string
	out           *history.Copy
}

func (c ReplayConfig) choose(d *amqp.Delivery) (returning, bool) {
	m := parkedFrom(d)
	if c.Match != nil && !c.Match(m) {
		return returning{}, false
	}
	exchange, key := "", m.Queue
	if c.To != nil {
		exchange, key = c.To(m)
	}
	if key == "" && exchange == "" {
		return returning{}, false
	}
	return returning{*d, exchange, key, m.again(time.Now())}, true
}

// send publishes a batch and acknowledges what was confirmed. The error ends the replay.
func (c ReplayConfig) send(ctx context.Context, l *look, to Publisher, batch []returning, skipped *SkippedError) (done int, err error) {
	results := publish(ctx, to, batch)
	late, end := outlast(ctx)
	defer end()
	var errs []error
	for i, b := range batch {
		if err := results[i]; err != nil {
			err = fmt.Errorf("parking: message %s stays parked: %w", validate.Quote(b.d.MessageId), err)
			if ctx.Err() != nil || publisherClosed(err) {
				errs = append(errs, err)
			} else {
				skipped.add(err)
			}
			continue
		}
		b.out.Log(ctx, cmp.Or(c.Logger, slog.Default()).With("queue", l.queue, "to", cmp.Or(b.exchange, b.key)), "parking: message changed by its move")
		if err := l.ack(late, &b.d); err != nil {
			errs = append(errs, fmt.Errorf("parking: message %s was replayed and is parked still: %w", validate.Quote(b.d.MessageId), err))
			continue
		}
		done++
	}
	if len(errs) > 3 {
		errs = append(errs[:3], fmt.Errorf("parking: and %d more messages", len(errs)-3))
	}
	return done, errors.Join(errs...)
}

// publish publishes a batch, and returns an outcome for each message.
func publish(ctx context.Context, to Publisher, batch []returning) []error {
	results := make([]error, len(batch))
	var all sync.WaitGroup
	for i, b := range batch {
		send := func() error { return b.out.Republish(ctx, to, b.exchange, b.key) }
		if s, ok := to.(starter); ok {
			wait := s.start(ctx, b.exchange, b.key, b.out.Publishing())
			resend := send
			send = func() error {
				err := wait()
				if err == nil || !b.out.Concede(err) {
					return err
				}
				return resend()
			}
		}
		all.Go(func() { results[i] = send() })
	}
	all.Wait()
	return results
}

// A starter hands a message over before it returns, so that one comes after the other. Its result waits for the outcome.
type starter interface {
	start(ctx context.Context, exchange, key string, msg amqp.Publishing) (wait func() error)
}

// InOrder makes the Publisher with which Replay keeps to the order of the queue, as far as one connection does, and still
// has 64 messages on their way at a time. It takes a *producer.Producer:
//
//	retry.Replay(ctx, conn, retry.InOrder(p), …)
//
// Messages that cannot be published are left out of the order: the others keep theirs, and a later replay brings back the
// skipped ones behind them. The same holds for a message that is sent again without a header that did not fit.
func InOrder[R interface{ Wait(context.Context) error }](p interface {
	RepublishAsync(ctx context.Context, exchange, key string, msg amqp.Publishing) (R, error)
},
) Publisher {
	return inOrder(func(ctx context.Context, exchange, key string, msg amqp.Publishing) func() error {
		receipt, err := p.RepublishAsync(ctx, exchange, key, msg)
		if err != nil {
			return func() error { return err }
		}
		return func() error { return receipt.Wait(ctx) }
	})
}

type inOrder func(ctx context.Context, exchange, key string, msg amqp.Publishing) func() error

func (o inOrder) start(ctx context.Context, exchange, key string, msg amqp.Publishing) func() error {
	return o(ctx, exchange, key, msg)
}

func (o inOrder) Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error {
	return o(ctx, exchange, key, msg)()
}

// A pace keeps to a rate. What a slow batch fell behind is not made up for, since the rate is a bound.
type pace struct {
	batch int
	each  time.Duration // zero means no bound
	next  time.Time     // when the next message may go
}

func newPace(rate float64) *pace {
	if rate == 0 {
		return &pace{batch: replayWindow}
	}
	return &pace{
		batch: int(min(max(rate/10, 1), replayWindow)), // smooth to a tenth of a second
		each:  time.Duration(float64(time.Second) / rate),
	}
}

// left is how long to wait before the next message.
func (p *pace) left() time.Duration { return time.Until(p.next) }

// spend counts n messages that go now.
func (p *pace) spend(n int) { p.next = time.Now().Add(time.Duration(n) * p.each) }

// A Publisher publishes received messages again; *producer.Producer is one. Republish returns nil only when the
// message was routed to a queue and confirmed. It publishes with the mandatory flag. If it cannot send a header, it
// refuses the message with a *[amqperr.FieldError] for that field, and the message is published without that header.
type Publisher interface {
	Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error
}

// publisherClosed reports whether a Publisher's error says that it publishes nothing any more.
func publisherClosed(err error) bool {
	var closed interface{ Closed() bool }
	return errors.As(err, &closed) && closed.Closed()
}

// sleep returns nil after d, or the cause when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func fault(field, problem, fix string) error {
	return &amqperr.FieldError{Package: "parking", Field: field, Problem: problem, Fix: fix}
}
