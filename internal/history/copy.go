package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

const (
	MaxErrorText = 4000 // bytes of HeaderError
	MaxEntryText = 200  // bytes of one error in HeaderHistory
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

// A Publisher publishes a copy. It returns nil only if the message was routed to a queue and confirmed. If it cannot send a
// header or property, it returns a *amqperr.FieldError for that field.
type Publisher interface {
	Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error
}

// A Copy is a message that moves to another queue.
type Copy struct {
	msg     amqp.Publishing // its Headers are the message's own
	own     amqp.Table      // the headers of the record
	changes []string        // what this move leaves out or changes, and why
	more    int             // changes beyond maxChanges
	lossy   bool            // something is left out
}

// Publishing returns the body, the properties and the headers of a delivery.
func Publishing(d *amqp.Delivery) amqp.Publishing {
	return amqp.Publishing{
		Headers: d.Headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
		CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId, Timestamp: d.Timestamp,
		Type: d.Type, UserId: d.UserId, AppId: d.AppId, Body: d.Body,
	}
}

// NewCopy returns the copy of a message with the record own, which it changes. The copy lacks an earlier record, RabbitMQ's
// counts, and properties that would act again in another queue. The expiration, the user id and the header CC are kept in own.
func NewCopy(msg amqp.Publishing, own amqp.Table) *Copy {
	c := &Copy{msg: msg, own: own}
	if msg.Expiration != "" {
		own[HeaderExpiration] = msg.Expiration
	}
	if cc := msg.Headers["CC"]; cc != nil {
		own[HeaderCC] = cc
	}
	c.msg.Headers = maps.Clone(msg.Headers)
	maps.DeleteFunc(c.msg.Headers, func(name string, _ any) bool { return IsCount(name) || IsOwn(name) || name == "CC" })
	c.msg.Expiration = ""
	if dropped, ok := own[HeaderDropped].([]any); ok {
		own[HeaderDropped] = list(dropped)
	} else {
		delete(own, HeaderDropped)
	}
	if msg.UserId != "" {
		own[HeaderUserID] = msg.UserId
		c.msg.UserId = ""
		c.note("user-id", "RabbitMQ accepts it only from this user; it is kept in "+HeaderUserID)
	}
	if _, ok := c.msg.Headers["BCC"]; ok {
		c.leaveOut("BCC", "would route the copy to other queues")
	}
	c.shrink(maxHeader)
	return c
}

// Republish publishes the copy, without the headers that the Publisher refuses. It returns a panic of the Publisher, such as of a nil
// pointer, as an error.
func (c *Copy) Republish(ctx context.Context, to Publisher, exchange, key string) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the Publisher panicked: %v", v)
		}
	}()
	for {
		err := to.Republish(ctx, exchange, key, c.Publishing())
		if err == nil || !c.Concede(err) {
			return err
		}
	}
}

// Log logs the changes of the copy, with the message text.
func (c *Copy) Log(ctx context.Context, log *slog.Logger, text string) {
	level := slog.LevelInfo
	if c.lossy {
		level = slog.LevelWarn
	}
	if len(c.changes) > 0 {
		log.Log(ctx, level, text, "message_id", c.msg.MessageId, "changes", c.changes, "more", c.more)
	}
}

// publishing joins the message and its history.
func (c *Copy) Publishing() amqp.Publishing {
	msg := c.msg
	msg.Headers = make(amqp.Table, len(c.msg.Headers)+len(c.own))
	maps.Copy(msg.Headers, c.msg.Headers)
	maps.Copy(msg.Headers, c.own)
	return msg
}

// size returns the bytes of the content header.
func (c *Copy) size() int {
	msg := c.Publishing()
	table, _ := validate.Received(msg.Headers, math.MaxInt)
	return validate.HeaderSize(&msg, table)
}

// entrySize returns the bytes of a header.
func entrySize(name string, v any) int {
	n, _ := validate.Received(amqp.Table{name: v}, math.MaxInt)
	return n - 4 // the length of the table
}

// concede drops the part of the message that the Publisher refused. It returns false if the message itself is refused.
func (c *Copy) Concede(err error) bool {
	var refused *amqperr.FieldError
	if !errors.As(err, &refused) {
		return false
	}
	if refused.Field == "ReplyTo" && c.msg.ReplyTo != "" {
		c.msg.ReplyTo = ""
		c.leaveOut("reply-to", refused.Problem)
		return true
	}
	if !strings.HasPrefix(refused.Field, "Headers") {
		return false
	}
	var frame *validate.FrameError
	if errors.As(err, &frame) {
		return c.shrink(c.size() - frame.Over)
	}
	for name := range c.msg.Headers {
		if strings.HasPrefix(refused.Field, "Headers["+validate.Quote(name)+"]") {
			c.leaveOut(name, refused.Problem)
			return true
		}
	}
	return c.shrink(c.size() + c.added() - 1)
}

// shrink makes the content header fit into limit bytes, with RabbitMQ's additions. The history is shortened first, then as
// few of the message's headers as possible are left out. It returns false if that is not enough.
func (c *Copy) shrink(limit int) bool {
	limit -= c.added()
	history, _ := c.own[HeaderHistory].([]any)
	for kept := len(history); kept > 0 && c.size() > limit; {
		kept--
		c.own[HeaderHistory] = history[len(history)-kept:]
		c.note(fmt.Sprintf("entry %d of the history", len(history)-kept), tooLarge)
	}
	if text := Text(c.own, HeaderError); len(text) > MaxEntryText && c.size() > limit {
		c.own[HeaderError] = Cut(text, MaxEntryText)
		c.note("text of the error", tooLarge)
	}
	over := c.size() - limit
	if over <= 0 && c.surplus() <= 0 {
		return true
	}
	type entry struct {
		name string
		size int
	}
	var entries []entry // the smallest first
	for name, v := range c.msg.Headers {
		entries = append(entries, entry{name, entrySize(name, v)})
	}
	if cc, ok := c.own[HeaderCC]; ok {
		entries = append(entries, entry{"CC", entrySize(HeaderCC, cc)})
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Or(a.size-b.size, cmp.Compare(a.name, b.name)) })
	for over > 0 || c.surplus() > 0 {
		if len(entries) == 0 {
			return false
		}
		i, why := 0, tooMany
		if c.surplus() <= 0 { // the smallest that is large enough, or the largest
			i, _ = slices.BinarySearchFunc(entries, over, func(e entry, over int) int { return e.size - over })
			i, why = min(i, len(entries)-1), tooLarge
		}
		named := 0
		if dropped, ok := c.own[HeaderDropped]; ok {
			named = entrySize(HeaderDropped, dropped)
		}
		c.leaveOut(entries[i].name, why)
		over += entrySize(HeaderDropped, c.own[HeaderDropped]) - named - entries[i].size
		entries = slices.Delete(entries, i, i+1)
	}
	return true
}

// added returns how many bytes RabbitMQ may add. A copy dies twice at most, in a wait queue and then in its source queue, and
// RabbitMQ writes their names into its headers six times.
func (c *Copy) added() int {
	const others, suffix = 500, len(".wait.00h00m00.000s")
	return max(addedBytes, others+6*(len(Text(c.own, HeaderQueue))+suffix))
}

// surplus returns by how many headers the message exceeds what consumers can read.
func (c *Copy) surplus() int { return len(c.msg.Headers) + addedEntries - maxEntries }

// leaveOut drops a header, and names it and other dropped properties in HeaderDropped, after the ones that earlier moves dropped.
func (c *Copy) leaveOut(name, why string) {
	delete(c.msg.Headers, name)
	if name == "CC" {
		delete(c.own, HeaderCC)
	}
	earlier, _ := c.own[HeaderDropped].([]any)
	c.own[HeaderDropped] = list(append(slices.Clone(earlier), name))
	c.note(Cut(name, MaxEntryText), why)
	c.lossy = true
}

// note notes a change for the log.
func (c *Copy) note(what, why string) {
	if len(c.changes) < maxChanges {
		c.changes = append(c.changes, what+": "+why)
	} else {
		c.more++
	}
}

// list is the value of HeaderDropped.
func list(names []any) []any {
	var l []any
	for _, n := range names[:min(len(names), maxNamed)] {
		l = append(l, Cut(fmt.Sprint(n), MaxEntryText))
	}
	if len(l) < len(names) {
		l = append(l, "and more")
	}
	return l
}

func Stamp(t time.Time) string { return t.UTC().Format(timeLayout) }

// cut returns s as valid UTF-8 of at most n bytes.
func Cut(s string, n int) string {
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
