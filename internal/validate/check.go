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

// Limits of names and tables. A name or table beyond them would not fail alone: amqp091-go or
// RabbitMQ would close the channel or the whole connection.
const (
	MaxName    = 255      // bytes of a short string (AMQP 0-9-1, 4.2.5.3)
	MaxBody    = 16 << 20 // RabbitMQ's default max_message_size
	MaxHeaders = 100_000  // bytes of an encoded table: it must fit one frame (131,072 by default) with the other properties

	// FrameOverhead is the part of a frame that is not payload (AMQP 0-9-1, 2.3.5).
	FrameOverhead = 8

	// MaxTimer is the longest time that RabbitMQ accepts for a timer, about ten years.
	MaxTimer = maxExpiration * time.Millisecond

	maxExpiration = 315_360_000_000
)

// A FrameError is the amqperr.FieldError of a content header that does not fit into a frame of the connection.
type FrameError struct {
	*amqperr.FieldError
	Over int // bytes by which it is too large
}

func (e *FrameError) Unwrap() error { return e.FieldError }

// A Problem is what a check found: the field below the one checked (".x-foo", or empty),
// what is wrong and how to mend it.
type Problem struct{ Field, Problem, Fix string }

// Time checks a time that is sent. AMQP 0-9-1 carries it as unsigned seconds since 1970, and Python's
// clients lose their connection over a year after 9999.
func Time(t time.Time) *Problem {
	const last = 253_402_300_799 // the end of the year 9999
	if s := t.Unix(); s < 0 || s > last {
		return &Problem{Problem: fmt.Sprintf("%s is outside of the years 1970 to 9999", t.UTC().Format(time.RFC3339)), Fix: "leave it out, or send it as a string"}
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

// Text checks a short string that other clients decode as UTF-8 (AMQP 0-9-1, 4.2.5.3), such as a
// message id: py-amqp, which Celery uses, loses its connection over another one.
func Text(s string) *Problem {
	if p := Short(s); p != nil {
		return p
	}
	if !utf8.ValidString(s) {
		return &Problem{Problem: Quote(s) + " is not valid UTF-8", Fix: "encode it, for example as base64, or send it in a header as []byte"}
	}
	return nil
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
	return &Problem{Problem: "is not a UTF-8 string of at most 255 bytes", Fix: "shorten it, or convert it to a string"}
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
