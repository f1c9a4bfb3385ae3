package producer

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// names reports whether the broker's reason for closing the channel names r as the message that
// it refused. RabbitMQ checks a message in this order before any queue gets it: body size, write
// permission, exchange, internal exchange, expiration, topic permission for the routing key and
// each CC and BCC, user id (basic.publish in rabbit_channel.erl; the texts are the same in 4.0 and 4.3).
func names(reason *amqp.Error, r *Receipt) bool {
	m := &r.msg
	_, text, _ := strings.Cut(reason.Reason, " - ") // after the name of the code
	switch reason.Code {
	case amqp.NotFound:
		return reads(text, "no exchange '", m.Exchange, "' in vhost '")
	case amqp.AccessRefused:
		exchange := m.Exchange
		if exchange == "" {
			exchange = "amq.default"
		}
		return reads(text, "write access to exchange '", exchange, "' in vhost '") ||
			reads(text, "cannot publish to internal exchange '", exchange, "' in vhost '") ||
			strings.HasPrefix(text, "write access to topic '") && slices.ContainsFunc(routes(m), func(key string) bool {
				return reads(text, "write access to topic '", key, "' in exchange '", exchange, "' in vhost '")
			})
	case amqp.PreconditionFailed:
		if size, _, ok := tooLarge(reason); ok {
			return len(m.Publishing.Body) == size
		}
		return m.Publishing.UserId != "" && reads(text, "user_id property set to '", m.Publishing.UserId, "' but authenticated user was '") ||
			m.Publishing.Expiration != "" && reads(text, "invalid expiration '", m.Publishing.Expiration, "': ")
	}
	return false
}

// reads reports whether text starts with parts. RabbitMQ cuts a text off at 255 characters
// and appends "..."; then text has to be the start of parts.
func reads(text string, parts ...string) bool {
	rest := text
	for _, part := range parts {
		if !utf8.ValidString(part) {
			part = fromLatin1(part)
		}
		if !strings.HasPrefix(rest, part) {
			start, isCut := strings.CutSuffix(rest, "...")
			return isCut && strings.HasPrefix(part, start)
		}
		rest = rest[len(part):]
	}
	return true
}

// fromLatin1 spells s as RabbitMQ does if it is not UTF-8: each byte becomes a character.
func fromLatin1(s string) string {
	chars := make([]rune, len(s))
	for i := range len(s) {
		chars[i] = rune(s[i])
	}
	return string(chars)
}

// routes returns all routing keys of m.
func routes(m *Message) []string {
	keys := []string{m.Key}
	for _, name := range carbonCopies {
		list, _ := m.Publishing.Headers[name].([]any)
		for _, v := range list {
			if key, ok := v.(string); ok {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

var tooLargeText = regexp.MustCompile(`message size (\d+) is larger than (?:configured )?max size (\d+)`)

// tooLarge reads out of the reason which size the broker refused, and its max_message_size.
func tooLarge(reason *amqp.Error) (size, limit int, ok bool) {
	if reason == nil || reason.Code != amqp.PreconditionFailed {
		return 0, 0, false
	}
	m := tooLargeText.FindStringSubmatch(reason.Reason)
	if m == nil {
		return 0, 0, false
	}
	size, _ = strconv.Atoi(m[1])
	limit, _ = strconv.Atoi(m[2])
	return size, limit, limit > 0
}

// explain adds the remedy to a refusal.
func explain(reason *amqp.Error, r *Receipt) error {
	switch reason.Code {
	case amqp.NotFound:
		return fmt.Errorf("%w; declare the exchange in the connection's Setup, or correct its name", reason)
	case amqp.AccessRefused:
		if strings.Contains(reason.Reason, "internal exchange '") {
			return fmt.Errorf("%w; publish to an exchange that is bound to it", reason)
		}
		return fmt.Errorf("%w; grant the permission (rabbitmqctl set_permissions, for a topic set_topic_permissions)", reason)
	case amqp.PreconditionFailed:
		if _, _, ok := tooLarge(reason); ok {
			return fmt.Errorf("%w; store the body elsewhere and send a reference, or raise RabbitMQ's max_message_size", reason)
		}
		if r.msg.Publishing.UserId != "" {
			return fmt.Errorf("%w: %w", fault("UserId", validate.Quote(r.msg.Publishing.UserId)+" is not the user that is logged in",
				"leave it empty, or give the user the tag impersonator"), reason)
		}
	}
	return reason
}

// A refusal applies to other messages for a time that doubles whenever the broker repeats it. The time is
// short for a missing exchange, which is cheap to ask for and may be declared at any moment. It is longer for
// a missing permission, because RabbitMQ closes the channel.
const (
	missingFor     = 250 * time.Microsecond
	refusedFor     = 250 * time.Millisecond
	longestRefusal = time.Second
	mostRefusals   = 64 // remembered at a time
)

// refusals are the broker's recent refusals. A message that one of them names is refused without asking
// the broker again, because each refusal closes a channel, and often the one with all messages in flight.
type refusals []refusal

type refusal struct {
	reason *amqp.Error
	of     string // the identity of the refused message if the reason is cut off and may name others too
	at     time.Time
	lasts  time.Duration
	made   bool // RabbitMQ could not send this reason and closed the connection instead
}

// add remembers the refusal of r; r is nil if the reason names several messages.
func (rs *refusals) add(reason *amqp.Error, r *Receipt, made bool, now time.Time) {
	if _, _, ok := tooLarge(reason); ok { // Producer.maxSize has it
		return
	}
	of := ""
	if strings.HasSuffix(reason.Reason, "...") {
		if r == nil {
			return // the next one finds out which of them it means
		}
		of = identity(r)
	}
	lasts := refusedFor
	if reason.Code == amqp.NotFound {
		lasts = missingFor
	}
	*rs = slices.DeleteFunc(*rs, func(r refusal) bool {
		same := r.reason.Reason == reason.Reason && r.of == of
		if same {
			lasts = min(2*r.lasts, longestRefusal)
		}
		return same || now.Sub(r.at) >= 2*longestRefusal
	})
	if len(*rs) == mostRefusals {
		*rs = slices.Delete(*rs, 0, 1)
	}
	*rs = append(*rs, refusal{reason, of, now, lasts, made})
}

// identity is all of a message that RabbitMQ may refuse.
func identity(r *Receipt) string {
	return fmt.Sprintf("%q %q %q %q", r.msg.Exchange, routes(&r.msg), r.msg.Publishing.UserId, r.msg.Publishing.Expiration)
}

func (f *refusal) appliesTo(r *Receipt) bool {
	return names(f.reason, r) && (f.of == "" || f.of == identity(r))
}

// exists forgets that the exchange of r was missing.
func (rs *refusals) exists(r *Receipt) {
	*rs = slices.DeleteFunc(*rs, func(refused refusal) bool { return refused.reason.Code == amqp.NotFound && refused.appliesTo(r) })
}

// find returns the refusal that applies to r, or nil.
func (rs *refusals) find(r *Receipt) *amqp.Error {
	if len(*rs) == 0 {
		return nil
	}
	now, current := time.Now(), false
	for _, refused := range *rs {
		age := now.Sub(refused.at)
		if age < refused.lasts && refused.appliesTo(r) {
			return refused.reason
		}
		current = current || age < 2*longestRefusal
	}
	if !current {
		*rs = nil
	}
	return nil
}

// reconnected forgets the refusals of the last connection: Setup has run since, and the user may be another.
// It keeps the refusals that closed the connection.
func (rs *refusals) reconnected() {
	*rs = slices.DeleteFunc(*rs, func(r refusal) bool { return !r.made })
}
