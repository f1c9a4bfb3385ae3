package topology

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	// maxChannels bounds what one call opens. Over 8 channels RabbitMQ declares two to four
	// times as fast as over one, and over 16 no faster.
	maxChannels = 8
	// perChannel is how many requests of a phase make another channel worth opening.
	perChannel = 4
	// closeTime bounds the closing of channels after the end of ctx.
	closeTime = 5 * time.Second
)

// An object is what requests depend on.
type object struct{ kind, name string }

func (o object) String() string { return o.kind + " " + validate.Quote(o.name) }

// A step is one request about one object.
type step struct {
	at      int      // its place among all, for the order of errors
	makes   object   // zero for a binding
	needs   []object // what must not have failed before
	call    func(*amqp.Channel) error
	refusal func(*amqp.Error) error // gives the broker's answer a type
}

// channels spreads steps over the channels of one connection. A channel that the broker
// closes, as it does with every refusal, is replaced.
type channels struct {
	ac   *amqp.Connection
	idle chan *amqp.Channel // open, and with no worker: the next phase may have others
}

func newChannels(ac *amqp.Connection) channels {
	return channels{ac, make(chan *amqp.Channel, maxChannels)}
}

// run makes the requests of steps, and returns the broker's refusal of each beside it. lost
// is what ended everything, if something did: the end of ctx or of the connection.
func (c channels) run(ctx context.Context, steps []step) (refused []*amqp.Error, lost error) {
	refused = make([]*amqp.Error, len(steps))
	var next atomic.Int64
	var ends [maxChannels]error
	var workers sync.WaitGroup
	for w := range min(maxChannels, (len(steps)+perChannel-1)/perChannel) {
		workers.Go(func() { ends[w] = c.work(ctx, steps, &next, refused) })
	}
	workers.Wait()
	lost = cause(ends[:])
	if lost == nil && int(next.Load()) < len(steps) {
		lost = amqp.ErrChannelMax // no worker had a channel
	}
	return refused, lost
}

// work makes one request after the other until none is left. Where the connection has no
// channel for it, it leaves them to the workers that have one.
func (c channels) work(ctx context.Context, steps []step, next *atomic.Int64, refused []*amqp.Error) (lost error) {
	var ch *amqp.Channel
	defer func() {
		if ch != nil {
			c.idle <- ch
		}
	}()
	for int(next.Load()) < len(steps) {
		if ch == nil {
			if ch, lost = c.take(ctx); errors.Is(lost, amqp.ErrChannelMax) {
				return nil
			} else if lost != nil {
				return lost
			}
		}
		i := int(next.Add(1)) - 1
		if i >= len(steps) {
			return nil
		}
		if refused[i], lost = c.do(ctx, func() error { return steps[i].call(ch) }); lost != nil {
			return lost
		}
		if refused[i] != nil {
			ch = nil // closed by the broker together with its answer
		}
	}
	return nil
}

// take returns an idle channel, or opens one.
func (c channels) take(ctx context.Context) (*amqp.Channel, error) {
	select {
	case ch := <-c.idle:
		return ch, nil
	default:
	}
	ch, err := wire.Channel(ctx, c.ac)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return ch, err
}

// do makes one request. What is not the broker's answer is the end of the connection, even
// where amqp091-go has not marked it closed yet.
func (c channels) do(ctx context.Context, call func() error) (refused *amqp.Error, lost error) {
	err := wire.Do(ctx, c.ac, call)
	if err == nil {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	refused, ok := errors.AsType[*amqp.Error](err)
	if !ok || !refused.Server || c.ac.IsClosed() {
		return nil, err
	}
	return refused, nil
}

// close closes the channels. When ctx has ended it does not wait for the broker. A connection on which the
// answers do not come in time is cut.
func (c channels) close(ctx context.Context) {
	close(c.idle)
	var workers sync.WaitGroup
	for ch := range c.idle {
		if ctx.Err() != nil {
			go func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
				defer cancel()
				_ = wire.Do(ctx, c.ac, ch.Close)
			}()
		} else {
			workers.Go(func() { _ = wire.Do(ctx, c.ac, ch.Close) })
		}
	}
	workers.Wait()
}

// cause picks the error that says most: amqp091-go gives the reason for a lost connection to
// the calls under way, and no more than "closed" to those after them.
func cause(errs []error) (most error) {
	for _, err := range errs {
		if err != nil && (most == nil || wire.IsClosed(most)) {
			most = err
		}
	}
	return most
}
