// Package history keeps the record of a message's failures in the message's headers, and makes the copy of a message that
// moves to another queue. Package retry writes the record, package parking reads it.
package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// The headers of the record. A message carries them next to its own headers. Times are RFC 3339 in UTC, with milliseconds.
const (
	HeaderAttempts     = "x-amqpkit-attempts"      // int64: number of failed attempts
	HeaderFirstFailure = "x-amqpkit-first-failure" // time of the first failure
	HeaderLastFailure  = "x-amqpkit-last-failure"  // time of the last failure
	HeaderError        = "x-amqpkit-error"         // text of the last error, at most 4,000 bytes
	HeaderErrorType    = "x-amqpkit-error-type"    // its Go type
	HeaderHistory      = "x-amqpkit-history"       // list of the latest failures, at most ten: "time attempt 3: text"
	HeaderReason       = "x-amqpkit-reason"        // why the message was parked: one of the Reason constants
	HeaderQueue        = "x-amqpkit-queue"         // the queue whose handler failed
	HeaderExchange     = "x-amqpkit-exchange"      // the exchange to which the message was published
	HeaderKey          = "x-amqpkit-key"           // its routing key there
	HeaderHost         = "x-amqpkit-host"          // the host of the handler
	HeaderConsumer     = "x-amqpkit-consumer"      // its consumer tag
	HeaderDue          = "x-amqpkit-due"           // no handler may be called earlier
	HeaderPark         = "x-amqpkit-park"          // the reason for parking a message that returned to its queue because its parking queue was unavailable
	HeaderDropped      = "x-amqpkit-dropped"       // list of the message's own headers and properties that could not be sent

	// Properties that would act again in another queue are kept under these names. Handlers find them in their
	// place, except for the user id: RabbitMQ vouches for it, a header cannot.
	HeaderCC         = "x-amqpkit-cc"         // the header CC, which would route the copy to other queues
	HeaderExpiration = "x-amqpkit-expiration" // the message's TTL, which would remove it from the other queue
	HeaderUserID     = "x-amqpkit-user-id"    // the user id, which RabbitMQ refuses from another user
)

// The values of HeaderReason. RabbitMQ's reasons (delivery_limit, expired, rejected, maxlen) stand for messages that
// it dead-lettered.
const (
	ReasonAttempts  = "attempts"  // the last attempt that the policy allows has failed
	ReasonAge       = "age"       // the next attempt would have exceeded the policy's maximum age
	ReasonAfter     = "after"     // the handler asked for a longer delay than the plan can wait
	ReasonPermanent = "permanent" // the error is permanent
	ReasonRejected  = "rejected"  // consumer.Reject, for example for a body that cannot be decoded
	ReasonRule      = "rule"      // the action of a rule
)

const (
	timeLayout = "2006-01-02T15:04:05.000Z07:00"
	maxHistory = 10
)

// WaitQueue returns the name of the queue in which messages of another queue wait for a delay: orders.wait.1m30s.
func WaitQueue(queue string, delay time.Duration) string { return queue + ".wait." + Short(delay) }

// IsWaitQueue reports whether name is a wait queue of the other queue.
func IsWaitQueue(name, queue string) bool { return strings.HasPrefix(name, queue+".wait.") }

// ParkingQueue returns the name of the queue in which messages of another queue are parked: orders.parked.
func ParkingQueue(queue string) string { return queue + ".parked" }

// Short returns d without units that are zero: 1m instead of 1m0s.
func Short(d time.Duration) string {
	s := d.String()
	for _, suffix := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, suffix) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// A Record is the record of a message's failures.
type Record struct {
	Attempts    int // failed attempts
	First, Last time.Time
	Entries     []any // of HeaderHistory
	Due         time.Time
	Reason      string // why the message is parked
	Park        string // the reason for parking the message without another attempt
	Dropped     any

	Error, ErrorType string

	Queue              string // whose handler failed
	Exchange, Key      string // of the original
	Expiration, UserID string
	CC                 any
}

// Read reads the record of a delivery from a queue. It ignores the record of another queue, which a message carries if a handler
// passed it on with all its headers, and reads the properties of the delivery instead.
func Read(d *amqp.Delivery, queue string) Record {
	r := Record{
		Queue: queue, Exchange: d.Exchange, Key: d.RoutingKey, Expiration: d.Expiration, UserID: d.UserId, CC: d.Headers["CC"], Dropped: d.Headers[HeaderDropped],
	}
	if Text(d.Headers, HeaderQueue) != queue {
		return r
	}
	r.Entries, r.Reason, r.Park = latest(d.Headers[HeaderHistory]), Text(d.Headers, HeaderReason), Text(d.Headers, HeaderPark)
	if _, ok := d.Headers[HeaderKey].(string); ok {
		r.Exchange, r.Key = Text(d.Headers, HeaderExchange), Text(d.Headers, HeaderKey)
		r.Expiration, r.UserID = Text(d.Headers, HeaderExpiration), Text(d.Headers, HeaderUserID)
		r.CC = d.Headers[HeaderCC]
	}
	r.Error, r.ErrorType = Text(d.Headers, HeaderError), Text(d.Headers, HeaderErrorType)
	n, _ := d.Headers[HeaderAttempts].(int64) // none if it never failed or was replayed
	r.Attempts = int(min(max(n, 0), 1<<30))
	r.First, r.Last, r.Due = when(d.Headers, HeaderFirstFailure), when(d.Headers, HeaderLastFailure), when(d.Headers, HeaderDue)
	return r
}

// Rest returns how long the message has to wait yet. Clocks may differ: it is not longer than the whole wait since the last failure.
func (r *Record) Rest(now time.Time) time.Duration {
	rest := r.Due.Sub(now)
	if !r.Last.IsZero() {
		rest = min(rest, r.Due.Sub(r.Last))
	}
	return rest
}

// Add adds a failure to the record, with the text and the type of its error.
func (r *Record) Add(text, errorType string, now time.Time) {
	r.Attempts++
	if r.First.IsZero() || r.First.After(now) {
		r.First = now
	}
	r.Last, r.Due = now, time.Time{}
	r.Error, r.ErrorType = text, errorType
	r.note(now, fmt.Sprintf("attempt %d: %s", r.Attempts, Cut(text, MaxEntryText)))
}

// note adds an entry to the history, and keeps the newest ones.
func (r *Record) note(now time.Time, text string) {
	kept := r.Entries[max(0, len(r.Entries)+1-maxHistory):]
	r.Entries = append(slices.Clip(kept), Stamp(now)+" "+text)
}

// Headers returns the headers of the record.
func (r *Record) Headers() amqp.Table {
	h := amqp.Table{
		HeaderAttempts: int64(r.Attempts), HeaderError: r.Error, HeaderErrorType: r.ErrorType, HeaderReason: r.Reason, HeaderPark: r.Park,
		HeaderQueue: r.Queue, HeaderExpiration: r.Expiration, HeaderUserID: r.UserID, HeaderCC: r.CC, HeaderDropped: r.Dropped,
		HeaderFirstFailure: Stamp(r.First), HeaderLastFailure: Stamp(r.Last), HeaderDue: Stamp(r.Due.Add(time.Millisecond - 1)), // rounded up
	}
	never := Stamp(time.Time{})
	maps.DeleteFunc(h, func(_ string, v any) bool { return v == int64(0) || v == "" || v == nil || v == never })
	h[HeaderHistory], h[HeaderExchange], h[HeaderKey] = r.Entries, r.Exchange, r.Key
	return h
}

// IsCount reports whether RabbitMQ counts in the header what happened to a message. The count means nothing after another
// publish.
func IsCount(header string) bool {
	switch header {
	case "x-death", "x-delivery-count", "x-acquired-count":
		return true
	}
	return strings.HasPrefix(header, "x-first-death-") || strings.HasPrefix(header, "x-last-death-")
}

// Text returns a header of the record, shortened to the longest value that a record has.
func Text(h amqp.Table, name string) string {
	s, _ := h[name].(string)
	most := validate.MaxName
	if name == HeaderError {
		most = MaxErrorText
	}
	if len(s) > most {
		return Cut(s, most)
	}
	return s
}

// latest returns the entries of HeaderHistory, shortened in the same way.
func latest(history any) []any {
	all, _ := history.([]any)
	var kept []any
	for _, e := range all[max(0, len(all)-maxHistory):] {
		if s, ok := e.(string); ok {
			kept = append(kept, Cut(s, maxEntry))
		}
	}
	return kept
}

func when(h amqp.Table, name string) time.Time {
	t, _ := time.Parse(time.RFC3339, Text(h, name))
	return t
}

// IsOwn reports whether the header belongs to the record.
func IsOwn(header string) bool {
	switch header {
	case HeaderAttempts, HeaderFirstFailure, HeaderLastFailure, HeaderError, HeaderErrorType, HeaderHistory, HeaderReason, HeaderQueue,
		HeaderExchange, HeaderKey, HeaderHost, HeaderConsumer, HeaderDue, HeaderPark, HeaderDropped, HeaderCC, HeaderExpiration, HeaderUserID:
		return true
	}
	return false
}
