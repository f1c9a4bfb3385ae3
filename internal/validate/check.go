package validate

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
)

// Limits of RabbitMQ and AMQP 0-9-1. If a name or table exceeds them, amqp091-go or RabbitMQ closes the channel or the whole
// connection.
const (
	MaxName    = 255      // bytes of a short string (AMQP 0-9-1, 4.2.5.3)
	MaxBody    = 16 << 20 // RabbitMQ's default max_message_size
	MaxHeaders = 100_000  // bytes of an encoded table: it must fit one frame (131,072 by default) with the other properties

	// FrameOverhead is the size of a frame without its payload (AMQP 0-9-1, 2.3.5).
	FrameOverhead = 8

	// MaxTimer is RabbitMQ's limit on timers, ten years of 365 days. It bounds every TTL, expiry and delay.
	MaxTimer = 10 * 365 * 24 * time.Hour
)

// A FrameError reports a content header that does not fit into a frame of the connection.
type FrameError struct {
	*amqperr.FieldError
	Over int // bytes by which it is too large
}

func (e *FrameError) Unwrap() error { return e.FieldError }

// A Problem is the result of a failed check. It becomes a part of an amqperr.FieldError.
type Problem struct {
	Field   string // the path below the checked field: `["x-foo"]`, or empty
	Problem string
	Fix     string
}

// Time checks a time that is sent. AMQP 0-9-1 encodes it as unsigned seconds since 1970. Python's clients lose their
// connection if the year is after 9999.
func Time(t time.Time) *Problem {
	const last = 253_402_300_799 // the end of the year 9999
	if s := t.Unix(); s < 0 || s > last {
		return &Problem{Problem: fmt.Sprintf("%s is not between the years 1970 and 9999", t.UTC().Format(time.RFC3339)), Fix: "leave it out, or send it as a string"}
	}
	return nil
}

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

// Text checks a short string that other clients decode as UTF-8 (AMQP 0-9-1, 4.2.5.3), such as a message id. If it is not
// valid UTF-8, py-amqp, which Celery uses, loses its connection.
func Text(s string) *Problem {
	if p := Short(s); p != nil {
		return p
	}
	if !utf8.ValidString(s) {
		return &Problem{Problem: Quote(s) + " is not valid UTF-8", Fix: "encode it, for example as base64, or send it in a header as []byte"}
	}
	return nil
}

// Name checks the name of an exchange, queue, consumer or connection: a short string of valid UTF-8, because RabbitMQ
// closes the connection on some other names.
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

// DirectReplyTo refuses the pseudo-queue of direct reply-to. RabbitMQ accepts it only from a channel that consumes from it,
// and delivers it to consumers with a token appended.
func DirectReplyTo(s string) *Problem {
	if s == "amq.rabbitmq.reply-to" {
		return &Problem{Problem: "direct reply-to works only on a channel that consumes the replies", Fix: "use a raw channel, or a queue for the replies"}
	}
	return nil
}

// StreamFilter is the header by which RabbitMQ filters the messages of a stream.
const StreamFilter = "x-stream-filter-value"

// FilterValue checks the value of the header StreamFilter.
func FilterValue(v any) *Problem {
	if s, ok := v.(string); ok && Name(s) == nil {
		return nil
	}
	return &Problem{Problem: "must be a string of valid UTF-8 and at most 255 bytes", Fix: "shorten it, or convert it to a string"}
}

// HeaderSize returns the payload size of the content header frame of p, as amqp091-go writes it (AMQP 0-9-1, 2.3.5.2).
// headers is the encoded size of its headers.
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

// Expiration checks the per-message TTL. RabbitMQ closes the channel unless it is a whole number of milliseconds.
func Expiration(s string) *Problem {
	if s == "" {
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > uint64(MaxTimer/time.Millisecond) || strconv.FormatUint(n, 10) != s {
		return notMilliseconds(s)
	}
	return nil
}

func notMilliseconds(s string) *Problem {
	return &Problem{Problem: Quote(s) + " is not a whole number of milliseconds up to ten years", Fix: `write "60000" for a minute`}
}

// ReceivedExpiration checks a TTL in any spelling that RabbitMQ accepts, such as with a sign or leading zeros.
func ReceivedExpiration(s string) *Problem {
	if s == "" {
		return nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < 0 || n > int64(MaxTimer/time.Millisecond) {
		return notMilliseconds(s)
	}
	return nil
}
