package retry

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// The headers of a message that failed. In the wait and parking queues a message carries them beside its
// own headers. Times are RFC 3339 in UTC, with milliseconds.
const (
	HeaderAttempts     = "x-amqpkit-attempts"      // int64: how often the handler failed; with Config.Native, RabbitMQ's count and one
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
	HeaderDue          = "x-amqpkit-due"           // not to be handled before: of After, and of what waits in its own queue
	HeaderPark         = "x-amqpkit-park"          // to be parked for this reason: it is back in its queue, since the parking queue was unavailable
	HeaderDropped      = "x-amqpkit-dropped"       // list of its own headers and properties that could not be sent

	// What would act again in another queue is kept under another name, and in the handler it
	// is back in its place, except for the user id, which RabbitMQ vouches for and this cannot.
	HeaderCC         = "x-amqpkit-cc"         // the header CC, which would route a copy elsewhere
	HeaderExpiration = "x-amqpkit-expiration" // the message's own TTL, which would end it while it waits
	HeaderUserID     = "x-amqpkit-user-id"    // which RabbitMQ refuses from another user
)

const (
	timeLayout = "2006-01-02T15:04:05.000Z07:00"
	maxHistory = 10
)

// A story is what is known of a message's failures.
type story struct {
	attempts    int // that failed
	first, last time.Time
	history     []any
	due         time.Time
	park        string // why it is to be parked, its failures being over
	dropped     any

	error, errorType string

	exchange, key      string // of the original
	expiration, userID string
	cc                 any
}

// read reads the story of a delivery. It ignores the story of another queue, as of a message that a handler passed on with all its
// headers, except for what is missing of the message.
func read(d *consumer.Delivery) story {
	s := story{
		exchange: d.Exchange, key: d.RoutingKey, expiration: d.Expiration, userID: d.UserId, cc: d.Headers["CC"], dropped: d.Headers[HeaderDropped],
	}
	if text(d.Headers, HeaderQueue) != d.Queue {
		return s
	}
	s.history, s.park = latest(d.Headers[HeaderHistory]), text(d.Headers, HeaderPark)
	if _, ok := d.Headers[HeaderKey].(string); ok {
		s.exchange, s.key = text(d.Headers, HeaderExchange), text(d.Headers, HeaderKey)
		s.expiration, s.userID = text(d.Headers, HeaderExpiration), text(d.Headers, HeaderUserID)
		s.cc = d.Headers[HeaderCC]
	}
	s.due = when(d.Headers, HeaderDue)
	s.error, s.errorType = text(d.Headers, HeaderError), text(d.Headers, HeaderErrorType)
	n, ok := d.Headers[HeaderAttempts].(int64)
	if !ok || n < 1 { // never failed, or replayed
		return s
	}
	s.attempts = int(min(n, 1<<30))
	s.first, s.last = when(d.Headers, HeaderFirstFailure), when(d.Headers, HeaderLastFailure)
	return s
}

// rest is how long the message has to wait yet. Clocks may differ: it is not longer than the whole wait since its last failure.
func (s *story) rest(now time.Time) time.Duration {
	rest := s.due.Sub(now)
	if !s.last.IsZero() {
		rest = min(rest, s.due.Sub(s.last))
	}
	return rest
}

// fails adds a failure to the story.
func (s *story) fails(f failure, now time.Time) {
	s.attempts++
	if s.first.IsZero() || s.first.After(now) {
		s.first = now
	}
	s.last, s.due = now, time.Time{}
	s.error, s.errorType = f.text, f.kind
	entry := fmt.Sprintf("%s attempt %d: %s", stamp(now), s.attempts, cut(f.text, maxEntryText))
	s.history = remember(s.history, entry)
}

// show returns the delivery as the handler is to see it: as it was published, with the story in its headers.
// What the handler does to it changes nothing of the original.
func (s *story) show(d *consumer.Delivery) *consumer.Delivery {
	shown := *d
	shown.Body = append([]byte(nil), d.Body...)
	shown.Exchange, shown.RoutingKey, shown.Expiration = s.exchange, s.key, s.expiration
	shown.Headers, _ = clone(d.Headers).(amqp.Table)
	if shown.Headers == nil {
		shown.Headers = amqp.Table{}
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
func PublishedTo(d *consumer.Delivery, queue string) (exchange, key string) {
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

// text is a header of a story. What is longer than the story makes it, somebody else has made.
func text(h amqp.Table, name string) string {
	s, _ := h[name].(string)
	most := validate.MaxName
	if name == HeaderError {
		most = maxErrorText
	}
	if len(s) > most {
		return cut(s, most)
	}
	return s
}

// latest are the entries of a history, likewise.
func latest(history any) []any {
	all, _ := history.([]any)
	var kept []any
	for _, e := range all[max(0, len(all)-maxHistory):] {
		if s, ok := e.(string); ok {
			kept = append(kept, cut(s, maxEntry))
		}
	}
	return kept
}

// clone copies a header's value, with what it holds.
func clone(v any) any {
	switch v := v.(type) {
	case amqp.Table:
		t := make(amqp.Table, len(v))
		for k, e := range v {
			t[k] = clone(e)
		}
		return t
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = clone(e)
		}
		return l
	case []byte:
		return bytes.Clone(v)
	}
	return v
}

func when(h amqp.Table, name string) time.Time {
	t, _ := time.Parse(time.RFC3339, text(h, name))
	return t
}

// isOwn reports the headers of a story.
func isOwn(header string) bool {
	switch header {
	case HeaderAttempts, HeaderFirstFailure, HeaderLastFailure, HeaderError, HeaderErrorType, HeaderHistory, HeaderWhy, HeaderQueue,
		HeaderExchange, HeaderKey, HeaderHost, HeaderConsumer, HeaderDue, HeaderPark, HeaderDropped, HeaderCC, HeaderExpiration, HeaderUserID:
		return true
	}
	return false
}
