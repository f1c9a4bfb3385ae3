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
	MaxDepth   = 16       // tables and arrays within each other
	MaxEntries = 1024     // entries of a table or array, those within it included

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
	if s == "amq.rabbitmq.reply-to" {
		return &Problem{Problem: "direct reply-to works only on a channel that consumes the replies", Fix: "use a raw channel, or a queue for the replies"}
	}
	return Name(s)
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
	w := walk{entries: MaxEntries, bytes: bytes, limit: bytes}
	return w.table(t, 1)
}

type walk struct{ entries, bytes, limit int }

func (w *walk) table(t amqp.Table, depth int) *Problem {
	for k, v := range t {
		p := Name(k)
		if p != nil {
			p.Problem = "key " + p.Problem
		} else {
			w.bytes -= len(k) + 1
			p = w.value(v, depth)
		}
		if p != nil {
			return p.in("[" + Quote(k) + "]")
		}
	}
	return nil
}

// in puts the problem at a place.
func (p *Problem) in(place string) *Problem {
	p.Field = place + p.Field
	return p
}

func (w *walk) value(v any, depth int) *Problem {
	if depth > MaxDepth {
		return &Problem{"", fmt.Sprintf("tables are nested deeper than %d", MaxDepth), "flatten them, or put the data into the body"}
	}
	if w.entries--; w.entries < 0 {
		return &Problem{"", fmt.Sprintf("more than %d entries", MaxEntries), "put the data into the body"}
	}
	w.bytes -= 9
	switch v := v.(type) {
	case nil, bool, int8, uint8, int16, uint16, int32, uint32, int64, amqp.Decimal:
	case float32:
		return w.value(float64(v), depth)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) { // RabbitMQ cannot decode it, and closes the connection (541)
			return &Problem{"", fmt.Sprintf("%v is no number", v), "leave it out, or send it as a string"}
		}
	case int:
		if v < math.MinInt32 || v > math.MaxInt32 { // amqp091-go would send the low 32 bits
			return &Problem{"", fmt.Sprintf("%d does not fit the 32 bits that an int is sent as", v), "convert it to int64"}
		}
	case time.Time:
	case string:
		w.bytes -= len(v)
	case []byte:
		w.bytes -= len(v)
	case amqp.Table:
		if p := w.table(v, depth+1); p != nil {
			return p
		}
	case []any:
		for i, e := range v {
			if p := w.value(e, depth+1); p != nil {
				return p.in("[" + strconv.Itoa(i) + "]")
			}
		}
	default:
		return &Problem{"", fmt.Sprintf("AMQP 0-9-1 cannot carry a %T", v), typeFix(v)}
	}
	if w.bytes < 0 {
		return &Problem{"", fmt.Sprintf("the table is larger than %d bytes", w.limit), "put the data into the body"}
	}
	return nil
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
		return &Problem{Problem: Quote(s) + " is not a whole number of milliseconds up to ten years", Fix: `write "60000" for a minute`}
	}
	return nil
}
