package retry

import (
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
)

// The headers of a message that failed. In the wait and parking queues a message carries them beside its
// own headers. Times are RFC 3339 in UTC, with milliseconds.
const (
	HeaderAttempts     = "x-amqpkit-attempts"      // int64: how often the handler failed
	HeaderFirstFailure = "x-amqpkit-first-failure" // time of the first failure, from which the age counts
	HeaderLastFailure  = "x-amqpkit-last-failure"  // time of the last one
	HeaderError        = "x-amqpkit-error"         // the last error's text, cut to 4,000 bytes
	HeaderErrorType    = "x-amqpkit-error-type"    // its Go type
	HeaderHistory      = "x-amqpkit-history"       // list of the latest failures, ten at most: "time attempt 3: text"
	HeaderWhy          = "x-amqpkit-why"           // why it was parked: WhyAttempts and so on
	HeaderQueue        = "x-amqpkit-queue"         // the queue whose handler failed
	HeaderExchange     = "x-amqpkit-exchange"      // what it was published to
	HeaderKey          = "x-amqpkit-key"           // with which routing key
	HeaderHost         = "x-amqpkit-host"          // where the handler ran
	HeaderConsumer     = "x-amqpkit-consumer"      // its consumer tag
	HeaderDue          = "x-amqpkit-due"           // of After: not to be handled before
	HeaderDropped      = "x-amqpkit-dropped"       // list of its own headers that did not fit a frame

	// What would act again in another queue is kept under another name, and in the handler it
	// is back in its place, except for the user id, which RabbitMQ vouches for and this cannot.
	HeaderCC         = "x-amqpkit-cc"         // the header CC, which would route a copy elsewhere
	HeaderExpiration = "x-amqpkit-expiration" // the message's own TTL, which would end it while it waits
	HeaderUserID     = "x-amqpkit-user-id"    // which RabbitMQ refuses from another user
)

const (
	ownPrefix  = "x-amqpkit-"
	timeLayout = "2006-01-02T15:04:05.000Z07:00"
	maxHistory = 10
)

// A story is what is known of a message's failures.
type story struct {
	attempts    int // that failed
	first, last time.Time
	history     []any
	due         time.Time

	error, errorType string

	exchange, key      string // of the original
	expiration, userID string
	cc                 any
}

// read reads the story of a delivery. Headers of another queue's story, as of a message that a handler
// passed on with all its headers, say nothing here.
func read(d *consumer.Delivery) story {
	s := story{exchange: d.Exchange, key: d.RoutingKey, expiration: d.Expiration, userID: d.UserId, cc: d.Headers["CC"]}
	if text(d.Headers, HeaderQueue) != d.Queue {
		return s
	}
	if history, ok := d.Headers[HeaderHistory].([]any); ok {
		s.history = history[max(0, len(history)-maxHistory):]
	}
	if key, ok := d.Headers[HeaderKey].(string); ok {
		s.exchange, s.key = text(d.Headers, HeaderExchange), key
		s.expiration, s.userID = text(d.Headers, HeaderExpiration), text(d.Headers, HeaderUserID)
		s.cc = d.Headers[HeaderCC]
	}
	n, ok := d.Headers[HeaderAttempts].(int64)
	if !ok || n < 1 { // never failed, or replayed
		return s
	}
	s.attempts = int(min(n, 1<<31))
	s.first, s.last, s.due = when(d.Headers, HeaderFirstFailure), when(d.Headers, HeaderLastFailure), when(d.Headers, HeaderDue)
	s.error, s.errorType = text(d.Headers, HeaderError), text(d.Headers, HeaderErrorType)
	return s
}

// fails adds a failure to the story.
func (s *story) fails(err error, now time.Time) {
	s.attempts++
	if s.first.IsZero() {
		s.first = now
	}
	s.last, s.due = now, time.Time{}
	s.error, s.errorType = describe(err)
	s.history = remember(s.history, entry(s))
}

// show returns the delivery as the handler is to see it: as it was published, with the story in its headers.
// What the handler does to it changes nothing of the original.
func (s *story) show(d *consumer.Delivery) *consumer.Delivery {
	shown := *d
	shown.Body = append([]byte(nil), d.Body...)
	shown.Exchange, shown.RoutingKey, shown.Expiration = s.exchange, s.key, s.expiration
	shown.Headers = make(amqp.Table, len(d.Headers)+1)
	for k, v := range d.Headers {
		shown.Headers[k] = v
	}
	delete(shown.Headers, HeaderCC)
	if s.cc != nil {
		shown.Headers["CC"] = s.cc
	}
	return &shown
}

// Origin returns the exchange and the routing key that a delivery was first published with, also when
// it has come from a wait queue. Handlers within the middleware find them in the delivery itself; it is
// for what sees deliveries before, such as Config.Key of a consumer, and for parked messages. Queue is
// the one whose handler failed: of a parked message it is not the queue that it lies in.
func Origin(d *consumer.Delivery, queue string) (exchange, key string) {
	of := *d
	of.Queue = queue
	s := read(&of)
	return s.exchange, s.key
}

// counted tells the headers that are RabbitMQ's own count of what happened to a message. They mean nothing once
// it is published again.
func counted(header string) bool {
	switch header {
	case "x-death", "x-delivery-count", "x-acquired-count":
		return true
	}
	return strings.HasPrefix(header, "x-first-death-") || strings.HasPrefix(header, "x-last-death-")
}

func text(h amqp.Table, name string) string {
	s, _ := h[name].(string)
	return s
}

func when(h amqp.Table, name string) time.Time {
	t, _ := time.Parse(time.RFC3339, text(h, name))
	return t
}

// isOwn tells the headers of a story.
func isOwn(header string) bool { return strings.HasPrefix(header, ownPrefix) }
