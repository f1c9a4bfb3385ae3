package consumer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// Config says what to consume and how. Queue or Declare is required.
type Config struct {
	// Queue is the queue to consume from. It may be empty if Declare returns the name.
	Queue string

	// Workers is how many handlers run at once. Zero means one.
	Workers int

	// Prefetch is how many deliveries may wait unacknowledged, those in handlers and those
	// held after a failure included. Zero means three times Workers, 32 at least, so that no
	// worker idles for a round trip. Where a handler takes seconds and several consumers share the
	// queue, Workers is enough, and leaves the others their share. At most 65535; quorum queues cap it at 2000.
	//
	// Messages that keep failing take its places while they are held: when all are taken,
	// nothing else is delivered. And RabbitMQ's consumer timeout, 30 minutes by default, runs for
	// everything delivered, begun or not: Prefetch times a handler's time should stay below it.
	Prefetch int

	// Key, if set, returns the key of a delivery. Deliveries with the same key are handled in the order of
	// the queue, one at a time, also across a lost connection. Deliveries with different keys are handled
	// concurrently. An empty key has no order. Key must be quick, and must
	// not change the delivery; a panic in it counts as the handler's.
	//
	// A failed message leaves the order: it is redelivered after messages of its key that were
	// already delivered. The order is kept from one Run to the next, see SingleActiveConsumer.
	Key func(d *Delivery) string

	// SingleActiveConsumer says that the queue has a single active consumer (x-single-active-consumer): AMQP
	// gives a consumer no way to find out. Then the shutdown hands the queue over in order, as it does with Key
	// and with Exclusive: the next consumer starts after the last handler has returned, with the
	// message that is next. Run first finishes everything received, if DrainTimeout is enough for
	// handlers as slow as they were of late. Otherwise it finishes the running handlers and
	// puts the other messages back by closing its channel.
	//
	// A quorum queue counts each message that was put back so as a failed delivery: its x-delivery-count
	// rises by one, also for a postponed message and for one that arrived in the last moment. The
	// toolkit never takes that for an attempt. But the queue's delivery limit, 20 by default, has to leave room for
	// as many shutdowns as may happen while a message waits: raise it, or keep Prefetch times
	// the time of a handler, divided by Workers, below DrainTimeout. A message halfway to the default limit is logged.
	SingleActiveConsumer bool

	// TagPrefix is what the consumer tag, shown by RabbitMQ's tools, begins with; a random suffix
	// follows. Empty means the queue's name.
	TagPrefix string

	// Declare, if set, runs before every subscribe, on the connection that will consume. It
	// is the place for what belongs to this consumer alone, such as an exclusive queue, which
	// is gone with its connection. It returns the name of the queue to consume from, for a
	// queue that the server names, or "" for Queue. An error is tried again, unless it is
	// permanent: *backoff.PermanentError, or an error with a method Permanent() bool that
	// returns true. Its ctx ends after a minute, and a few seconds after DrainTimeout when Run's has
	// ended: not with it, so that ending one consumer cuts no call on the connection it
	// shares. With it the connection is cut, because no call in it could be taken back.
	Declare func(ctx context.Context, ac *amqp.Connection) (queue string, err error)

	// Arguments are the arguments of basic.consume, such as x-priority or x-stream-offset. RabbitMQ ignores
	// arguments that it does not know. So New refuses names that begin with "x-" or are nearly right and
	// that amqpkit does not know, unless AllowUnknownArguments is set.
	//
	// x-stream-offset is where a Run begins to read a stream. After any loss or refusal it continues with the
	// first message that it had not settled. If it was subscribed and had received nothing yet, "next", "last"
	// and an interval such as "5m" keep the meaning that they had when it subscribed first: no message
	// published since then is skipped, and up to two seconds of earlier ones may be delivered. ("last" may miss
	// the last messages before that.)
	//
	// A stream that was deleted and declared again is read from its first message. A Run recognises it by its first
	// message, which is another one or has a lower offset, or by a basic.cancel that is followed by a 404. A
	// stream that begins with an equal message (properties and body) is taken for the same one otherwise. For this,
	// each subscription has a second channel until the first message was read.
	//
	// Without the argument a stream is read from "next" after each loss, and messages published in between
	// are missed.
	Arguments amqp.Table

	// AllowUnknownArguments accepts any argument name in Arguments.
	AllowUnknownArguments bool

	// MaxBodySize is how many bytes of body a delivery may have. A larger one is rejected
	// without the handler: it goes to the dead-letter exchange. Zero means no bound but the
	// broker's own (max_message_size, 16 MiB by default). It bounds what handlers get, not
	// memory: a delivery is judged when it was read, and Prefetch times the broker's bound
	// may be in memory.
	MaxBodySize int

	// Exclusive asks to be the queue's only consumer. Quorum queues ignore it: use a single
	// active consumer there, and SingleActiveConsumer.
	Exclusive bool

	// DrainTimeout is how long handlers may go on after Run's ctx ended. Zero means 30 seconds. With Key, SingleActiveConsumer or
	// Exclusive, messages that were received before are also handled in that time.
	DrainTimeout time.Duration

	// Backoff makes the delays before subscribing again, one BackOff for each Run, reset
	// after a subscription that lasted a second or settled something. Nil means the first try
	// within 20 ms, then exponential with full jitter, at most 900 ms, for ever. A delay of
	// backoff.Stop ends Run with the last failure. While a message is suspected of costing the
	// connection, see PoisonError, the delays are longer.
	Backoff func() backoff.BackOff

	// HasDeadLetterExchange says that the queue has a dead-letter exchange, so that Reject loses
	// nothing. Otherwise the first Reject of a Run is logged as a warning: AMQP gives a
	// consumer no way to find out.
	HasDeadLetterExchange bool

	// Middleware wraps the handler, the first outermost.
	Middleware []Middleware

	// Logger receives the start and the end of each subscription, failures to subscribe, and handlers' errors and
	// panics. Nil means the Logger of the Connection if it has one, as *amqpkit.Conn has, otherwise slog.Default(). Repeated
	// warnings are logged once a minute. Bodies and headers are never logged.
	Logger *slog.Logger
}

// ordered reports whether a shutdown hands the queue over in order. In a stream each consumer has its own place.
func (c Config) ordered() bool {
	return (c.Key != nil || c.SingleActiveConsumer || c.Exclusive) && !c.streams()
}

// streams reports whether the queue is known to be a stream.
func (c Config) streams() bool {
	_, ok := c.Arguments[streamOffset]
	return ok
}

// consumerTimeout is the queue's as far as the Config tells, else the default.
func (c Config) consumerTimeout() time.Duration {
	var ms int64
	switch v := c.Arguments["x-consumer-timeout"].(type) {
	case int:
		ms = int64(v)
	case int32:
		ms = int64(v)
	case int64:
		ms = v
	default:
		return defaultConsumerTimeout
	}
	return time.Duration(min(ms, 1<<40)) * time.Millisecond
}

// newTag returns a consumer tag: a readable beginning and a random end.
func (c Config) newTag(queue string) string {
	tag := c.TagPrefix
	if tag == "" {
		tag = strings.ToValidUTF8(queue[:min(len(queue), maxTag)], "")
	}
	return tag + "-" + rand.Text()[:tagSuffix]
}

const (
	maxPrefetch = 65535 // basic.qos carries 16 bits
	maxTag      = validate.MaxName - tagSuffix - 1
	tagSuffix   = 8

	// defaultConsumerTimeout is RabbitMQ's default.
	defaultConsumerTimeout = 30 * time.Minute
)

func (c Config) withDefaults() Config {
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.Prefetch == 0 {
		c.Prefetch = min(max(3*c.Workers, 32), maxPrefetch)
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 30 * time.Second
	}
	if c.Backoff == nil {
		c.Backoff = defaultBackoff
	}
	c.Arguments = validate.Arguments(c.Arguments)
	return c
}

// defaultBackoff draws each delay from 0 to twice the interval: 20 ms at first, 900 ms at
// most, so that consuming resumes within a second of it being possible.
func defaultBackoff() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(10*time.Millisecond),
		backoff.WithRandomizationFactor(1),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(450*time.Millisecond),
		backoff.WithMaxElapsedTime(0),
	)
}

// validate reports every wrong field of a Config with defaults.
func (c Config) validate() error {
	var errs []error
	wrong := func(field, problem, fix string) {
		errs = append(errs, &amqperr.FieldError{Package: "consumer", Field: field, Problem: problem, Fix: fix})
	}
	check := func(field string, p *validate.Problem) {
		if p != nil {
			wrong(field+p.Field, p.Problem, p.Fix)
		}
	}

	if c.Queue == "" && c.Declare == nil {
		wrong("Queue", "is empty", "name the queue, or return its name from Declare")
	}
	check("Queue", validate.Name(c.Queue))
	if c.Workers < 1 || c.Workers > maxPrefetch {
		wrong("Workers", fmt.Sprintf("is %d", c.Workers), "use 1 to 65535")
	}
	if c.Prefetch < 1 || c.Prefetch > maxPrefetch {
		wrong("Prefetch", fmt.Sprintf("is %d", c.Prefetch), "use 1 to 65535")
	}
	if len(c.TagPrefix) > maxTag {
		wrong("TagPrefix", fmt.Sprintf("is longer than %d bytes", maxTag), "shorten it")
	} else {
		check("TagPrefix", validate.Name(c.TagPrefix))
	}
	check("Arguments", validate.Table(c.Arguments))
	for _, p := range checkArguments(c.Arguments, c.AllowUnknownArguments) {
		check("Arguments", p)
	}
	if c.MaxBodySize < 0 {
		wrong("MaxBodySize", fmt.Sprintf("is %d", c.MaxBodySize), "use a number of bytes, or zero for no bound")
	}
	if c.DrainTimeout < 0 {
		wrong("DrainTimeout", fmt.Sprintf("is %v", c.DrainTimeout), "use a positive duration, or zero for 30 s")
	}
	for i, m := range c.Middleware {
		if m == nil {
			wrong(fmt.Sprintf("Middleware[%d]", i), "is nil", "remove it")
		}
	}
	return errors.Join(errs...)
}
