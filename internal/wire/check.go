package wire

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Limits of what is sent. A name or table beyond them would not fail alone: amqp091-go or
// RabbitMQ would close the channel or the whole connection.
const (
	MaxName    = 255      // bytes of a short string (AMQP 0-9-1, 4.2.5.3)
	MaxBody    = 16 << 20 // RabbitMQ's default max_message_size
	MaxHeaders = 100_000  // bytes of an encoded table: it must fit one frame (131,072 by default) with the other properties
	MaxDepth   = 16       // tables and arrays within the outermost table
	MaxEntries = 1024     // entries of a table, nested entries included

	// FrameOverhead is the part of a frame that is not payload (AMQP 0-9-1, 2.3.5).
	FrameOverhead = 8

	maxExpiration = 315_360_000_000 // ms, about ten years: RabbitMQ's limit on timers
)

// A Problem is what a check found: the field below the one checked (".x-foo", or empty),
// what is wrong and how to mend it.
type Problem struct{ Field, Problem, Fix string }

// Short checks the length of a short string, such as a routing key or a message id.
func Short(s string) *Problem {
	if len(s) > MaxName {
		return tooLong(s)
	}
	return nil
}

func tooLong(s string) *Problem {
	return &Problem{Problem: fmt.Sprintf("%s is longer than %d bytes", Quote(s), MaxName), Fix: "shorten it"}
}

// Name checks the name of an exchange, queue, consumer or connection: a short string that is
// UTF-8, since RabbitMQ closes the connection on some names that are not.
func Name(s string) *Problem {
	if p := Short(s); p != nil {
		return p
	}
	if !utf8.ValidString(s) {
		return &Problem{Problem: Quote(s) + " is not valid UTF-8", Fix: "encode it as UTF-8"}
	}
	if strings.ContainsAny(s, "\r\n") {
		return &Problem{Problem: Quote(s) + " contains a line break, which RabbitMQ drops from names", Fix: "leave it out"}
	}
	return nil
}

// ReplyTo checks the reply-to of a message.
func ReplyTo(s string) *Problem {
	if p := DirectReplyTo(s); p != nil {
		return p
	}
	return Name(s)
}

// DirectReplyTo refuses the pseudo-queue of direct reply-to, which RabbitMQ accepts only from a
// channel that consumes from it. Consumers receive it with a token appended.
func DirectReplyTo(s string) *Problem {
	if s == "amq.rabbitmq.reply-to" {
		return &Problem{Problem: "direct reply-to works only on a channel that consumes the replies", Fix: "use a raw channel, or a queue for the replies"}
	}
	return nil
}

// StreamFilter is the header that RabbitMQ itself reads when it publishes to a stream.
const StreamFilter = "x-stream-filter-value"

// FilterValue checks the value of the header StreamFilter.
func FilterValue(v any) *Problem {
	if s, ok := v.(string); ok && Name(s) == nil {
		return nil
	}
	return &Problem{Problem: "is no UTF-8 string of up to 255 bytes", Fix: "use one"}
}

// Table checks a table of headers or arguments: types that AMQP 0-9-1 can carry, names,
// depth, number of entries and encoded size.
func Table(t amqp.Table) *Problem { return TableWithin(t, MaxHeaders) }

// TableWithin is Table with another limit on the encoded size.
func TableWithin(t amqp.Table, bytes int) *Problem {
	_, p := Headers(t, bytes)
	return p
}

// Headers is TableWithin, and returns the encoded size.
func Headers(t amqp.Table, bytes int) (size int, p *Problem) {
	return measure(t, limits{depth: MaxDepth, total: MaxEntries, each: MaxEntries, bytes: bytes, key: Name})
}

// Received checks the headers of a message that was received and is published again, and
// returns the encoded size. It accepts every table that amqp091-go can read (its read.go has the
// depth and the number of entries), up to a limit on the encoded size.
func Received(t amqp.Table, bytes int) (size int, p *Problem) {
	return measure(t, limits{depth: 32, total: math.MaxInt, each: 8192, bytes: bytes, key: Short})
}

// limits of a table.
type limits struct {
	depth int // tables and arrays within the outermost table
	total int // entries, nested entries included
	each  int // entries of a single table or array
	bytes int // of the encoded table
	key   func(string) *Problem
}

// measure checks t and returns its encoded size. It visits at most l.bytes values, so it
// ends even if a table contains itself several times.
func measure(t amqp.Table, l limits) (size int, p *Problem) {
	w := walk{limits: l, left: l.bytes, entries: l.total}
	p = w.table(t, 0)
	return l.bytes - w.left, p
}

type walk struct {
	limits
	left    int // bytes
	entries int // left
}

func (w *walk) table(t amqp.Table, depth int) *Problem {
	if p := w.enter(len(t), depth); p != nil {
		return p
	}
	for k, v := range t {
		p := w.key(k)
		if p != nil {
			p.Problem = "key " + p.Problem
		} else {
			w.left -= 1 + len(k)
			p = w.value(v, depth)
		}
		if p != nil {
			return p.in("[" + Quote(k) + "]")
		}
	}
	return nil
}

// enter counts the length of a table or array.
func (w *walk) enter(entries, depth int) *Problem {
	if depth > w.depth {
		return &Problem{"", fmt.Sprintf("tables are nested deeper than %d", w.depth), "flatten them, or put the data into the body"}
	}
	if entries > w.each {
		return tooMany(w.each)
	}
	w.left -= 4
	return nil
}

func tooMany(entries int) *Problem {
	return &Problem{"", fmt.Sprintf("more than %d entries", entries), "put the data into the body"}
}

// in puts the problem at a place.
func (p *Problem) in(place string) *Problem {
	p.Field = place + p.Field
	return p
}

// value checks an entry and counts its encoded size: the type, then the value.
func (w *walk) value(v any, depth int) *Problem {
	if w.entries--; w.entries < 0 {
		return tooMany(w.total)
	}
	w.left--
	switch v := v.(type) {
	case nil:
	case bool, int8, uint8:
		w.left--
	case int16, uint16:
		w.left -= 2
	case int32, uint32:
		w.left -= 4
	case int64, time.Time:
		w.left -= 8
	case amqp.Decimal:
		w.left -= 5
	case float32:
		w.left -= 4
		if p := number(float64(v)); p != nil {
			return p
		}
	case float64:
		w.left -= 8
		if p := number(v); p != nil {
			return p
		}
	case int:
		w.left -= 4
		if v < math.MinInt32 || v > math.MaxInt32 { // amqp091-go would send the low 32 bits
			return &Problem{"", fmt.Sprintf("%d does not fit the 32 bits that an int is sent as", v), "convert it to int64"}
		}
	case string:
		w.left -= 4 + len(v)
	case []byte:
		w.left -= 4 + len(v)
	case amqp.Table:
		if p := w.table(v, depth+1); p != nil {
			return p
		}
	case []any:
		if p := w.enter(len(v), depth+1); p != nil {
			return p
		}
		for i, e := range v {
			if p := w.value(e, depth+1); p != nil {
				return p.in("[" + strconv.Itoa(i) + "]")
			}
		}
	default:
		return &Problem{"", fmt.Sprintf("AMQP 0-9-1 cannot carry a %T", v), typeFix(v)}
	}
	if w.left < 0 {
		return &Problem{"", fmt.Sprintf("the table is larger than %d bytes", w.bytes), "put the data into the body"}
	}
	return nil
}

// number refuses a float that RabbitMQ cannot decode: it would close the connection (541).
func number(f float64) *Problem {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return &Problem{"", fmt.Sprintf("%v is not a number", f), "leave it out, or send it as a string"}
	}
	return nil
}

// HeaderSize returns the payload size of the content header frame of p, as amqp091-go writes it
// (AMQP 0-9-1, 2.3.5.2). The encoded size of its headers is given.
func HeaderSize(p *amqp.Publishing, headers int) int {
	const fixed = 2 + 2 + 8 + 2 // class, weight, body size, flags
	size := fixed
	for _, s := range [...]string{
		p.ContentType, p.ContentEncoding, p.CorrelationId, p.ReplyTo, p.Expiration, p.MessageId, p.Type, p.UserId, p.AppId,
	} {
		if s != "" {
			size += 1 + len(s)
		}
	}
	if len(p.Headers) > 0 {
		size += headers
	}
	if p.DeliveryMode > 0 {
		size++
	}
	if p.Priority > 0 {
		size++
	}
	if !p.Timestamp.IsZero() {
		size += 8
	}
	return size
}

func typeFix(v any) string {
	switch v.(type) {
	case uint, uint64:
		return fmt.Sprintf("convert it to int64 (at most %d) or a string", int64(math.MaxInt64))
	case map[string]any:
		return "use amqp.Table"
	case []string:
		return "use []any"
	case time.Duration:
		return "convert it to int64 milliseconds"
	}
	return "convert it to a string, int64, bool, float64, time.Time, []byte, amqp.Table or []any"
}

// Expiration checks the per-message TTL: RabbitMQ closes the channel on anything but a whole
// number of milliseconds.
func Expiration(s string) *Problem {
	if s == "" {
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > maxExpiration || strconv.FormatUint(n, 10) != s {
		return notMilliseconds(s)
	}
	return nil
}

func notMilliseconds(s string) *Problem {
	return &Problem{Problem: Quote(s) + " is not a whole number of milliseconds up to ten years", Fix: `write "60000" for a minute`}
}

// ReceivedExpiration is Expiration for every spelling that RabbitMQ accepts: a sign and leading
// zeros too.
func ReceivedExpiration(s string) *Problem {
	if s == "" {
		return nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < 0 || n > maxExpiration {
		return notMilliseconds(s)
	}
	return nil
}
