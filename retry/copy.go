package retry

import (
	"cmp"
	"fmt"
	"maps"
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
	maxEntry     = 300  // of one entry there
	maxNamed     = 16   // entries of HeaderDropped
)

// publishing is the copy of d that takes a hop: body, properties and headers as they came, and the story, within the
// room that there is for headers.
func (p *Plan) publishing(d *consumer.Delivery, h hop, room int) amqp.Publishing {
	s := h.story
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
		HeaderError: s.error, HeaderErrorType: s.errorType, HeaderWhy: h.why, HeaderPark: s.park,
		HeaderExpiration: s.expiration, HeaderUserID: s.userID,
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
	if s.tries > 0 {
		own[HeaderTries] = int64(s.tries)
	}
	for name, value := range map[string]any{HeaderCC: s.cc, HeaderDropped: s.dropped} {
		if value != nil {
			own[name] = value
		}
	}
	return sendable(amqp.Publishing{
		Headers:         d.Headers,
		ContentType:     d.ContentType,
		ContentEncoding: d.ContentEncoding,
		DeliveryMode:    d.DeliveryMode,
		Priority:        d.Priority,
		CorrelationId:   d.CorrelationId,
		ReplyTo:         d.ReplyTo,
		MessageId:       cmp.Or(d.MessageId, h.id),
		Timestamp:       d.Timestamp,
		Type:            d.Type,
		AppId:           d.AppId,
		Body:            d.Body,
	}, own, room)
}

// sendable joins a message's headers and those of its story, and leaves out what RabbitMQ delivers and no
// producer sends: a message is worth more than that. It is named in HeaderDropped.
func sendable(msg amqp.Publishing, own amqp.Table, room int) amqp.Publishing {
	dropped, _ := own[HeaderDropped].([]any)
	dropped = slices.Clip(dropped)
	if wire.ReplyTo(msg.ReplyTo) != nil {
		msg.ReplyTo = ""
		dropped = append(dropped, "reply-to")
	}
	if msg.DeliveryMode > amqp.Persistent {
		msg.DeliveryMode = amqp.Persistent
		dropped = append(dropped, "delivery-mode")
	}
	msg.Headers = fit(msg.Headers, own, dropped, room)
	return msg
}

// fit joins headers within what a frame takes, and what the protocol library
// can send. The message's come first; so the story is shortened, and if that is not enough, of the message's
// headers the largest are left out.
func fit(original, own amqp.Table, dropped []any, room int) amqp.Table {
	headers := amqp.Table{}
	var names []string
	for k, v := range original {
		switch {
		case counted(k), isOwn(k), k == "CC", k == "BCC":
		case wire.Table(amqp.Table{k: v}) != nil, k == wire.StreamFilter && wire.FilterValue(v) != nil:
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
		if delete(own, HeaderDropped); len(dropped) > 0 {
			own[HeaderDropped] = list(dropped)
		}
		maps.Copy(headers, own)
		return wire.TableWithin(headers, room) == nil
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
	if _, ok := own[HeaderCC]; ok && !join() { // a very large one
		delete(own, HeaderCC)
		delete(headers, HeaderCC)
		dropped = append([]any{"CC"}, dropped...)
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

// list is the value of HeaderDropped.
func list(names []any) []any {
	var l []any
	for _, n := range names[:min(len(names), maxNamed)] {
		l = append(l, cut(fmt.Sprint(n), maxEntryText))
	}
	if len(l) < len(names) {
		l = append(l, "and more")
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
