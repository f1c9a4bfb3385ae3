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

// Limits of the record and the copy.
const (
	MaxErrorText = 4000 // bytes of HeaderError
	MaxEntryText = 200  // bytes of one error in HeaderHistory
	maxEntry     = 300  // bytes of one entry there
	maxNamed     = 16   // entries of HeaderDropped, without "and more"

	// A copy has to be readable after RabbitMQ has added its own headers (x-death and others): amqp091-go closes the
	// connection over a larger frame or table. A copy is dead-lettered twice at most, in a wait queue and then in its source queue,
	// and RabbitMQ writes the queues' names into its headers six times.
	maxHeader    = 131_072 - validate.FrameOverhead // bytes of a content header, by RabbitMQ's default frame_max
	maxEntries   = 8192                             // headers of a message
	addedBytes   = 500 + 6*(validate.MaxName+len(".wait.00h00m00.000s"))
	addedEntries = 16 + 18 // RabbitMQ's headers and the record's
)

type publisher interface { // see retry.Publisher
	Republish(ctx context.Context, exchange, key string, msg amqp.Publishing) error
}

// A Copy is a message that moves to another queue.
type Copy struct {
	msg     amqp.Publishing // its Headers are the message's own
	own     amqp.Table      // the headers of the record
	dropped []any           // names of headers and properties that this copy leaves out
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
	if msg.UserId != "" { // RabbitMQ accepts it only from this user
		own[HeaderUserID] = msg.UserId
	}
	if cc := msg.Headers["CC"]; cc != nil {
		own[HeaderCC] = cc
	}
	c.msg.Expiration, c.msg.UserId, c.msg.Headers = "", "", maps.Clone(msg.Headers)
	maps.DeleteFunc(c.msg.Headers, func(name string, _ any) bool { return IsCount(name) || IsOwn(name) || name == "CC" })
	dropped, _ := own[HeaderDropped].([]any)
	if delete(own, HeaderDropped); len(dropped) > 0 {
		own[HeaderDropped] = names(dropped)
	}
	if _, ok := c.msg.Headers["BCC"]; ok { // it would route the copy to other queues
		c.drop("BCC")
	}
	c.shrink(maxHeader)
	return c
}

// Republish publishes the copy, without the headers that the Publisher refuses. It returns a panic of the Publisher as an error.
func (c *Copy) Republish(ctx context.Context, to publisher, exchange, key string) (err error) {
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

// Log logs the names of the headers and properties that the copy leaves out, with the message text.
func (c *Copy) Log(ctx context.Context, log *slog.Logger, text string) {
	if len(c.dropped) > 0 {
		log.LogAttrs(ctx, slog.LevelWarn, text, slog.String("message_id", c.msg.MessageId), slog.Any("dropped", names(c.dropped)))
	}
}

// Publishing returns the copy with the headers of its record.
func (c *Copy) Publishing() amqp.Publishing {
	msg := c.msg
	msg.Headers = make(amqp.Table, len(c.msg.Headers)+len(c.own))
	maps.Copy(msg.Headers, c.msg.Headers)
	maps.Copy(msg.Headers, c.own)
	return msg
}

// Concede drops the part of the message that the Publisher refused. It returns false if the message itself is refused.
func (c *Copy) Concede(err error) bool {
	var refused *amqperr.FieldError
	if !errors.As(err, &refused) {
		return false
	}
	if refused.Field == "ReplyTo" && c.msg.ReplyTo != "" {
		c.msg.ReplyTo = ""
		c.drop("reply-to")
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
			c.drop(name)
			return true
		}
	}
	return c.shrink(c.size() + addedBytes - 1)
}

// shrink makes the content header fit into limit bytes, including the headers that RabbitMQ adds. It shortens the record first, and
// then drops as few of the message's headers as possible. It returns false if that is not enough.
func (c *Copy) shrink(limit int) bool {
	limit -= addedBytes
	entries, _ := c.own[HeaderHistory].([]any)
	for i := 1; i <= len(entries) && c.size() > limit; i++ {
		c.own[HeaderHistory] = entries[i:]
	}
	if text := Text(c.own, HeaderError); len(text) > MaxEntryText && c.size() > limit {
		c.own[HeaderError] = Cut(text, MaxEntryText)
	}
	over, surplus := c.size()-limit, len(c.msg.Headers)+addedEntries-maxEntries
	if over <= 0 && surplus <= 0 {
		return true
	}
	sizes := map[string]int{}
	for name, v := range c.msg.Headers {
		sizes[name] = entrySize(name, v)
	}
	if cc := c.own[HeaderCC]; cc != nil {
		sizes["CC"] = entrySize(HeaderCC, cc)
	}
	left := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int { return cmp.Or(sizes[a]-sizes[b], cmp.Compare(a, b)) })
	for ; over > 0 || surplus > 0; surplus-- {
		if len(left) == 0 {
			return false
		}
		i := 0            // the smallest header
		if surplus <= 0 { // the smallest one that is large enough, or the largest
			i, _ = slices.BinarySearchFunc(left, over, func(name string, over int) int { return sizes[name] - over })
			i = min(i, len(left)-1)
		}
		named := entrySize(HeaderDropped, c.own[HeaderDropped])
		c.drop(left[i])
		over += entrySize(HeaderDropped, c.own[HeaderDropped]) - named - sizes[left[i]]
		left = slices.Delete(left, i, i+1)
	}
	return true
}

// size returns the bytes of the content header.
func (c *Copy) size() int {
	msg := c.Publishing()
	table, _ := validate.Received(msg.Headers, math.MaxInt)
	return validate.HeaderSize(&msg, table)
}

// entrySize returns the bytes of a header, and 0 for nil.
func entrySize(name string, v any) int {
	if v == nil {
		return 0
	}
	n, _ := validate.Received(amqp.Table{name: v}, math.MaxInt)
	return n - 4 // the length of the table
}

// drop drops a header, and adds the name of the header or property to HeaderDropped, after the ones that earlier moves dropped.
func (c *Copy) drop(name string) {
	delete(c.msg.Headers, name)
	if name == "CC" {
		delete(c.own, HeaderCC)
	}
	earlier, _ := c.own[HeaderDropped].([]any)
	c.own[HeaderDropped] = names(append(slices.Clone(earlier), name))
	c.dropped = append(c.dropped, name)
}

// names returns the value of HeaderDropped.
func names(dropped []any) []any {
	var l []any
	for _, name := range dropped[:min(len(dropped), maxNamed)] {
		l = append(l, Cut(fmt.Sprint(name), MaxEntryText))
	}
	if len(l) < len(dropped) {
		l = append(l, "and more")
	}
	return l
}

// Stamp returns t as a header of the record has it.
func Stamp(t time.Time) string { return t.UTC().Format(timeLayout) }

// Cut returns s as valid UTF-8 of at most n bytes.
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
