package topology

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	// maxChannels bounds what one call opens. Over 8 channels RabbitMQ declares two to four
	// times as fast as over one.
	maxChannels = 8
	// perChannel is how many requests make another channel worth opening.
	perChannel = 4
)

// An object is what requests depend on.
type object struct{ kind, name string }

func (o object) String() string { return o.kind + " " + wire.Quote(o.name) }

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
	open [maxChannels]*amqp.Channel
}

// run makes the requests of steps, and returns the broker's refusal of each beside it. lost
// is what ended everything, if something did: the end of ctx or of the connection.
func (c *channels) run(ctx context.Context, steps []step) (refused []*amqp.Error, lost error) {
	refused = make([]*amqp.Error, len(steps))
	var next atomic.Int64
	var ends [maxChannels]error
	var workers sync.WaitGroup
	for w := range min(maxChannels, (len(steps)+perChannel-1)/perChannel) {
		workers.Go(func() {
			for ends[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= len(steps) {
					return
				}
				refused[i], ends[w] = c.do(ctx, w, steps[i].call)
			}
		})
	}
	workers.Wait()
	return refused, cause(ends[:])
}

// do makes one request over channel w. What is not the broker's answer is the end of the
// connection, even where amqp091-go has not marked it closed yet.
func (c *channels) do(ctx context.Context, w int, call func(*amqp.Channel) error) (refused *amqp.Error, lost error) {
	ch, err := c.open[w], error(nil)
	if ch == nil {
		ch, err = wire.Channel(ctx, c.ac)
		c.open[w] = ch
	}
	if err == nil {
		err = wire.Do(ctx, c.ac, func() error { return call(ch) })
	}
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
	c.open[w] = nil // closed by the broker together with its answer
	return refused, nil
}

// close closes the channels. When ctx has ended it does not wait for the broker: the answers
// come in their time, or the connection ends.
func (c *channels) close(ctx context.Context) {
	var workers sync.WaitGroup
	for _, ch := range c.open {
		switch {
		case ch == nil:
		case ctx.Err() != nil:
			go func() { _ = ch.Close() }()
		default:
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
