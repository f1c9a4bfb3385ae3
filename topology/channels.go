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
	// maxChannels is the number of channels of one call. RabbitMQ declares over 8 channels two to four times as fast as
	// over one, and equally fast over 16.
	maxChannels = 8
	// perChannel is the number of requests of a phase for which another channel is opened.
	perChannel = 4
	// closeTimeout bounds the closing of channels after the end of ctx.
	closeTimeout = 5 * time.Second
)

// An object is an exchange or a queue. Requests depend on it.
type object struct{ kind, name string }

func (o object) String() string { return o.kind + " " + validate.Quote(o.name) }

// A step is one request about one object.
type step struct {
	at      int      // its index among all requests, for the order of errors
	makes   object   // zero for a binding
	needs   []object // the step is left out if one of them failed
	call    func(*amqp.Channel) error
	refusal func(*amqp.Error) error // converts the broker's refusal into a typed error
}

// channels distributes steps over the channels of one connection. The broker closes a channel with every refusal; such a
// channel is replaced.
type channels struct {
	ac   *amqp.Connection
	idle chan *amqp.Channel // open, for the next phase
}

func newChannels(ac *amqp.Connection) channels {
	return channels{ac, make(chan *amqp.Channel, maxChannels)}
}

// run makes the requests of steps and returns the broker's refusal of each at the same index. lost is the reason why run
// stopped early: ctx ended or the connection was lost.
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
		lost = amqp.ErrChannelMax // no worker got a channel
	}
	return refused, lost
}

// work makes requests until none is left. If the connection has no channel left, it returns and leaves them to the other
// workers.
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

// do makes one request. Any error other than a refusal by the broker means that the connection is lost, even if amqp091-go
// has not marked it closed yet.
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

// close closes the channels. After the end of ctx it does not wait for the broker. If the answers do not arrive in time, the
// connection is closed.
func (c channels) close(ctx context.Context) {
	close(c.idle)
	var workers sync.WaitGroup
	for ch := range c.idle {
		if ctx.Err() != nil {
			go func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
				defer cancel()
				_ = wire.Do(ctx, c.ac, ch.Close)
			}()
		} else {
			workers.Go(func() { _ = wire.Do(ctx, c.ac, ch.Close) })
		}
	}
	workers.Wait()
}

// cause returns the most detailed error. amqp091-go returns the reason for a lost connection to the pending calls, and only
// ErrClosed to later ones.
func cause(errs []error) (most error) {
	for _, err := range errs {
		if err != nil && (most == nil || wire.IsClosed(most)) {
			most = err
		}
	}
	return most
}
