package retry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// replayWindow is how many messages are on their way at a time.
const replayWindow = 64

// ReplayConfig says what Replay brings back, and where to. Queue is required.
type ReplayConfig struct {
	// Queue is the parking queue.
	Queue string

	// Match chooses the messages; the others stay. Nil means all.
	Match func(Parked) bool

	// To says where a message goes; nothing for both leaves it parked. Nil means the queue whose handler failed, and
	// no other that got the message as well. Its original place is m.Exchange and m.Key, and from there it
	// reaches every queue that is bound.
	To func(m Parked) (exchange, key string)

	// Limit is how many messages are brought back at most. Zero means all that are there at the start: what is
	// parked again meanwhile stays.
	Limit int

	// Rate is how many messages a second go back at most. Zero means no bound.
	Rate float64

	// DryRun only counts.
	DryRun bool

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
	return errors.Join(errs...)
}

// A ReplayResult counts messages.
type ReplayResult struct {
	Total    int // in the parking queue at the start
	Seen     int // of these, so far
	Replayed int // back at work, and gone from the parking queue; in a dry run those that would be
	Kept     int // not chosen, or of unknown origin: still parked
}

// Replay brings parked messages back to work. Each is published again as it was before its first attempt, with its
// history, and leaves the parking queue when that is confirmed. Whatever interrupts it (ctx, a lost connection, a full
// queue), nothing is lost: what was not confirmed is still parked, and Replay can be run again. What was confirmed at
// that moment may be there twice, with one message id.
//
// The first message that cannot be published ends it with the Publisher's error.
func Replay(ctx context.Context, conn consumer.Connection, to Publisher, c ReplayConfig) (r ReplayResult, err error) {
	if err := c.validate(); err != nil {
		return r, err
	}
	l, err := lookInto(ctx, conn, c.Queue)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	r.Total = l.left
	pace := newPace(c.Rate)
	for {
		n := pace.batch
		if c.Limit > 0 {
			n = min(n, c.Limit-r.Replayed)
		}
		ds, err := l.next(ctx, n)
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
			if err := pace.wait(ctx, len(batch)); err != nil {
				return r, err
			}
			done, err := send(ctx, l, to, batch)
			r.Replayed += done
			if err != nil {
				return r, err
			}
		}
		if c.Progress != nil {
			c.Progress(r)
		}
	}
}

// A returning message is on its way back.
type returning struct {
	d             amqp.Delivery
	exchange, key string
	msg           amqp.Publishing
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

// send publishes a batch and acknowledges what was confirmed.
func send(ctx context.Context, l *look, to Publisher, batch []returning) (done int, err error) {
	results := make([]error, len(batch))
	var all sync.WaitGroup
	for i, b := range batch {
		all.Go(func() { results[i] = to.Publish(ctx, b.exchange, b.key, b.msg) })
	}
	all.Wait()
	var errs []error
	for i, b := range batch {
		if results[i] != nil {
			errs = append(errs, fmt.Errorf("retry: message %s stays parked: %w", wire.Quote(b.d.MessageId), results[i]))
			continue
		}
		if err := l.ack(context.WithoutCancel(ctx), b.d); err != nil {
			errs = append(errs, fmt.Errorf("retry: message %s was replayed and is parked still: %w", wire.Quote(b.d.MessageId), err))
			continue
		}
		done++
	}
	if len(errs) > 3 {
		errs = append(errs[:3], fmt.Errorf("retry: and %d more messages", len(errs)-3))
	}
	return done, errors.Join(errs...)
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
		batch: min(max(int(rate/10), 1), replayWindow), // smooth to a tenth of a second
		each:  time.Duration(float64(time.Second) / rate),
		next:  time.Now(),
	}
}

// wait waits until n messages may go.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.each == 0 {
		return ctx.Err()
	}
	err := sleep(ctx, time.Until(p.next))
	p.next = time.Now().Add(time.Duration(n) * p.each)
	return err
}
