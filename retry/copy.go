package retry

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/validate"
)

const (
	maxErrorText = 4000 // bytes of HeaderError
	maxEntryText = 200  // bytes of one error in HeaderHistory
	maxEntry     = 300  // bytes of one entry there
	maxNamed     = 16   // entries of HeaderDropped
	maxChanges   = 32   // entries of the log line about a copy

	// A copy has to be readable after RabbitMQ has added its own headers (x-death and others): amqp091-go closes the
	// connection over a larger frame or table.
	maxHeader    = 131_072 - validate.FrameOverhead // bytes of a content header, by RabbitMQ's default frame_max
	maxEntries   = 8192                             // headers of a message
	addedBytes   = 1400                             // at least, see added
	addedEntries = 16 + 18                          // RabbitMQ's headers and the history's
)

const (
	tooLarge = "does not fit into a frame of the connection (frame_max)"
	tooMany  = "consumers cannot read more headers"
)

// An outgoing message is a copy on its way to another queue.
type outgoing struct {
	msg     amqp.Publishing // its Headers are the message's own
	own     amqp.Table      // the headers of its history
	changes []string        // what this move leaves out or changes, and why
	more    int             // changes beyond maxChanges
	lossy   bool            // something is left out
}

// outgoing returns the copy of the delivery for a move: body, properties and headers as they came, and the history.
func (a *attempts) outgoing(m move) *outgoing {
	d, s := a.d, m.story
	own := amqp.Table{
		HeaderHistory:  s.history,
		HeaderQueue:    d.Queue,
		HeaderExchange: s.exchange,
		HeaderKey:      s.key,
		HeaderHost:     a.host,
		HeaderConsumer: d.ConsumerTag,
	}
	if s.attempts > 0 {
		own[HeaderAttempts] = int64(s.attempts)
	}
	for name, value := range map[string]string{
		HeaderError: s.error, HeaderErrorType: s.errorType, HeaderWhy: m.why, HeaderPark: s.park,
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
	for name, value := range map[string]any{HeaderCC: s.cc, HeaderDropped: s.dropped} {
		if value != nil {
			own[name] = value
		}
	}
	return newOutgoing(amqp.Publishing{
		Headers:         d.Headers,
		ContentType:     d.ContentType,
		ContentEncoding: d.ContentEncoding,
		DeliveryMode:    d.DeliveryMode,
		Priority:        d.Priority,
		CorrelationId:   d.CorrelationId,
		ReplyTo:         d.ReplyTo,
		MessageId:       a.messageID(),
		Timestamp:       d.Timestamp,
		Type:            d.Type,
		UserId:          d.UserId,
		AppId:           d.AppId,
		Body:            d.Body,
	}, own)
}

// newOutgoing separates a message from the headers of an earlier history, from RabbitMQ's counts, and from properties that
// act again in another queue. The caller keeps CC, the expiration and the user id in own.
func newOutgoing(msg amqp.Publishing, own amqp.Table) *outgoing {
	o := &outgoing{msg: msg, own: own}
	o.msg.Headers = maps.Clone(msg.Headers)
	maps.DeleteFunc(o.msg.Headers, func(name string, _ any) bool { return counted(name) || isOwn(name) || name == "CC" })
	o.msg.Expiration = ""
	if dropped, ok := own[HeaderDropped].([]any); ok {
		own[HeaderDropped] = list(dropped)
	} else {
		delete(own, HeaderDropped)
	}
	if o.msg.UserId != "" {
		o.msg.UserId = ""
		o.note("user-id", "RabbitMQ accepts it only from this user; it is kept in "+HeaderUserID)
	}
	if _, ok := o.msg.Headers["BCC"]; ok {
		o.leaveOut("BCC", "would route the copy to other queues")
	}
	o.shrink(maxHeader)
	return o
}

// publishing joins the message and its history.
func (o *outgoing) publishing() amqp.Publishing {
	msg := o.msg
	msg.Headers = make(amqp.Table, len(o.msg.Headers)+len(o.own))
	maps.Copy(msg.Headers, o.msg.Headers)
	maps.Copy(msg.Headers, o.own)
	return msg
}

// size returns the bytes of the content header.
func (o *outgoing) size() int {
	msg := o.publishing()
	table, _ := validate.Received(msg.Headers, math.MaxInt)
	return validate.HeaderSize(&msg, table)
}

// entrySize returns the bytes of a header.
func entrySize(name string, v any) int {
	n, _ := validate.Received(amqp.Table{name: v}, math.MaxInt)
	return n - 4 // the length of the table
}

// concede drops the part of the message that the Publisher refused. It returns false if the message itself is refused.
func (o *outgoing) concede(err error) bool {
	var refused *amqperr.FieldError
	if !errors.As(err, &refused) {
		return false
	}
	if refused.Field == "ReplyTo" && o.msg.ReplyTo != "" {
		o.msg.ReplyTo = ""
		o.leaveOut("reply-to", refused.Problem)
		return true
	}
	if !strings.HasPrefix(refused.Field, "Headers") {
		return false
	}
	var frame *validate.FrameError
	if errors.As(err, &frame) {
		return o.shrink(o.size() - frame.Over)
	}
	for name := range o.msg.Headers {
		if strings.HasPrefix(refused.Field, "Headers["+validate.Quote(name)+"]") {
			o.leaveOut(name, refused.Problem)
			return true
		}
	}
	return o.shrink(o.size() + o.added() - 1)
}

// shrink makes the content header fit into limit bytes, with RabbitMQ's additions. The history is shortened first, then as
// few of the message's headers as possible are left out. It returns false if that is not enough.
func (o *outgoing) shrink(limit int) bool {
	limit -= o.added()
	history, _ := o.own[HeaderHistory].([]any)
	for kept := len(history); kept > 0 && o.size() > limit; {
		kept--
		o.own[HeaderHistory] = history[len(history)-kept:]
		o.note(fmt.Sprintf("entry %d of the history", len(history)-kept), tooLarge)
	}
	if text := text(o.own, HeaderError); len(text) > maxEntryText && o.size() > limit {
		o.own[HeaderError] = cut(text, maxEntryText)
		o.note("text of the error", tooLarge)
	}
	over := o.size() - limit
	if over <= 0 && o.surplus() <= 0 {
		return true
	}
	type entry struct {
		name string
		size int
	}
	var entries []entry // the smallest first
	for name, v := range o.msg.Headers {
		entries = append(entries, entry{name, entrySize(name, v)})
	}
	if cc, ok := o.own[HeaderCC]; ok {
		entries = append(entries, entry{"CC", entrySize(HeaderCC, cc)})
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Or(a.size-b.size, cmp.Compare(a.name, b.name)) })
	for over > 0 || o.surplus() > 0 {
		if len(entries) == 0 {
			return false
		}
		i, why := 0, tooMany
		if o.surplus() <= 0 { // the smallest that is large enough, or the largest
			i, _ = slices.BinarySearchFunc(entries, over, func(e entry, over int) int { return e.size - over })
			i, why = min(i, len(entries)-1), tooLarge
		}
		named := 0
		if dropped, ok := o.own[HeaderDropped]; ok {
			named = entrySize(HeaderDropped, dropped)
		}
		o.leaveOut(entries[i].name, why)
		over += entrySize(HeaderDropped, o.own[HeaderDropped]) - named - entries[i].size
		entries = slices.Delete(entries, i, i+1)
	}
	return true
}

// added returns how many bytes RabbitMQ may add. A copy dies twice at most, in a wait queue and then in its source queue, and
// RabbitMQ writes their names into its headers six times.
func (o *outgoing) added() int {
	const others, suffix = 500, len(".wait.00h00m00.000s")
	return max(addedBytes, others+6*(len(text(o.own, HeaderQueue))+suffix))
}

// surplus returns by how many headers the message exceeds what consumers can read.
func (o *outgoing) surplus() int { return len(o.msg.Headers) + addedEntries - maxEntries }

// leaveOut drops a header, and names it and other dropped properties in HeaderDropped, after the ones that earlier moves dropped.
func (o *outgoing) leaveOut(name, why string) {
	delete(o.msg.Headers, name)
	if name == "CC" {
		delete(o.own, HeaderCC)
	}
	earlier, _ := o.own[HeaderDropped].([]any)
	o.own[HeaderDropped] = list(append(slices.Clone(earlier), name))
	o.note(cut(name, maxEntryText), why)
	o.lossy = true
}

// note notes a change for the log.
func (o *outgoing) note(what, why string) {
	if len(o.changes) < maxChanges {
		o.changes = append(o.changes, what+": "+why)
	} else {
		o.more++
	}
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

// describe returns the text and the type of a handler's error, without the marks of this package and consumer's.
func describe(err error) (text, kind string) {
	text = cut(err.Error(), maxErrorText)
	for {
		var inner error
		switch e := err.(type) { //nolint:errorlint // only the marks on the outside are taken off
		case interface {
			Permanent() bool
			Unwrap() error
		}: // amqperr.Permanent
			inner = e.Unwrap()
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
