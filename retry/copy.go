package retry

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	maxErrorText = 4000 // bytes of HeaderError
	maxEntryText = 200  // of one error in HeaderHistory
)

// publishing is the copy of d that goes to a wait or parking queue: body, properties and headers as they came,
// and the story.
func (p *Plan) publishing(d *consumer.Delivery, s story, why string) amqp.Publishing {
	own := amqp.Table{
		HeaderAttempts: int64(s.attempts),
		HeaderHistory:  s.history,
		HeaderQueue:    d.Queue,
		HeaderExchange: s.exchange,
		HeaderKey:      s.key,
		HeaderHost:     p.host,
		HeaderConsumer: d.ConsumerTag,
	}
	for name, value := range map[string]string{
		HeaderError: s.error, HeaderErrorType: s.errorType, HeaderWhy: why, HeaderExpiration: s.expiration, HeaderUserID: s.userID,
	} {
		if value != "" {
			own[name] = value
		}
	}
	for name, at := range map[string]time.Time{HeaderFirstFailure: s.first, HeaderLastFailure: s.last, HeaderDue: s.due} {
		if !at.IsZero() {
			own[name] = stamp(at)
		}
	}
	if s.cc != nil {
		own[HeaderCC] = s.cc
	}
	return amqp.Publishing{
		Headers:         fit(d.Headers, own),
		ContentType:     d.ContentType,
		ContentEncoding: d.ContentEncoding,
		DeliveryMode:    d.DeliveryMode,
		Priority:        d.Priority,
		CorrelationId:   d.CorrelationId,
		ReplyTo:         d.ReplyTo,
		MessageId:       d.MessageId,
		Timestamp:       d.Timestamp,
		Type:            d.Type,
		AppId:           d.AppId,
		Body:            d.Body,
	}
}

// fit joins a message's headers and those of its story within what a frame takes, and what the protocol library
// can send. The message's come first; so the story is shortened, and if that is not enough, of the message's
// headers the largest are left out: a message is worth more than they are.
func fit(original, own amqp.Table) amqp.Table {
	headers := amqp.Table{}
	var names, dropped []string
	for k, v := range original {
		switch {
		case counted(k), isOwn(k), k == "CC", k == "BCC":
		case wire.Table(amqp.Table{k: v}) != nil:
			dropped = append(dropped, k)
		default:
			headers[k] = v
			names = append(names, k)
		}
	}
	if cc, ok := own[HeaderCC]; ok && wire.Table(amqp.Table{HeaderCC: cc}) != nil {
		delete(own, HeaderCC)
		dropped = append(dropped, "CC")
	}
	join := func() bool {
		for k, v := range own {
			headers[k] = v
		}
		if len(dropped) > 0 {
			headers[HeaderDropped] = list(dropped)
		}
		return wire.Table(headers) == nil
	}
	if join() {
		return headers
	}
	own[HeaderHistory] = []any{}
	own[HeaderError] = cut(text(own, HeaderError), maxEntryText)
	slices.SortFunc(names, func(a, b string) int { return size(headers[b]) - size(headers[a]) })
	for !join() && len(names) > 0 {
		delete(headers, names[0])
		dropped, names = append(dropped, names[0]), names[1:]
	}
	if !join() { // a very large CC, or as many names as entries are allowed
		delete(own, HeaderCC)
		delete(headers, HeaderCC)
		dropped = []string{"CC", fmt.Sprintf("and %d more", len(dropped))}
		join()
	}
	return headers
}

// size is about how many bytes a header's value takes.
func size(v any) int {
	n := 9
	switch v := v.(type) {
	case string:
		n += len(v)
	case []byte:
		n += len(v)
	case []any:
		for _, e := range v {
			n += size(e)
		}
	case amqp.Table:
		for k, e := range v {
			n += len(k) + size(e)
		}
	}
	return n
}

func list(names []string) []any {
	l := make([]any, 0, len(names))
	for _, n := range names {
		l = append(l, cut(n, maxEntryText))
	}
	return l
}

// describe tells the text and the type of a handler's error, without the marks of this package and consumer's.
func describe(err error) (text, kind string) {
	text = cut(err.Error(), maxErrorText)
	for {
		var inner error
		switch e := err.(type) { //nolint:errorlint // only the marks on the outside are taken off
		case *PermanentError:
			inner = e.Err
		case *AfterError:
			inner = e.Err
		case *consumer.RejectError:
			inner = e.Err
		}
		if inner == nil {
			return text, cut(fmt.Sprintf("%T", err), maxEntryText)
		}
		err = inner
	}
}

// entry is the latest failure for HeaderHistory.
func entry(s *story) string {
	return fmt.Sprintf("%s attempt %d: %s", stamp(s.last), s.attempts, cut(s.error, maxEntryText))
}

func stamp(t time.Time) string { return t.UTC().Format(timeLayout) }

// cut returns s as valid UTF-8 of at most n bytes.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	const dots = "…"
	n -= len(dots)
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + dots
}
