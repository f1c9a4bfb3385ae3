package retry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// A line is an exported message: one JSON object a line. Body is base64.
type line struct {
	Headers         value     `json:"headers"`
	ContentType     string    `json:"content_type,omitempty"`
	ContentEncoding string    `json:"content_encoding,omitempty"`
	DeliveryMode    uint8     `json:"delivery_mode,omitempty"`
	Priority        uint8     `json:"priority,omitempty"`
	CorrelationID   string    `json:"correlation_id,omitempty"`
	ReplyTo         string    `json:"reply_to,omitempty"`
	Expiration      string    `json:"expiration,omitempty"`
	MessageID       string    `json:"message_id,omitempty"`
	Timestamp       time.Time `json:"timestamp,omitzero"`
	Type            string    `json:"type,omitempty"`
	UserID          string    `json:"user_id,omitempty"`
	AppID           string    `json:"app_id,omitempty"`
	Body            []byte    `json:"body"`
}

// Export writes the messages of a parking queue, or of any other, to w: one JSON object a line, from which Import
// makes the same messages again. They stay in the queue. It returns how many it wrote; those of a Write that
// failed are among them.
func Export(ctx context.Context, conn consumer.Connection, queue string, w io.Writer) (n int, err error) {
	l, err := lookInto(ctx, conn, queue)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	out := json.NewEncoder(w)
	for {
		ds, err := l.next(ctx, replayWindow)
		if err != nil || len(ds) == 0 {
			return n, err
		}
		for _, d := range ds {
			if err := out.Encode(lineOf(&d)); err != nil {
				return n, fmt.Errorf("retry: export message %s: %w", wire.Quote(d.MessageId), err)
			}
			n++
		}
	}
}

// Import publishes what Export wrote to a queue, the parking queue as a rule, each line confirmed before the next is read. It
// returns how many lines it did: after an error, the first of r that may not be there.
func Import(ctx context.Context, to Publisher, queue string, r io.Reader) (n int, err error) {
	in := json.NewDecoder(bufio.NewReader(r))
	for {
		var l line
		if err := in.Decode(&l); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, fmt.Errorf("retry: import line %d: %w", n+1, err)
		}
		msg, err := l.publishing()
		if err != nil {
			return n, fmt.Errorf("retry: import line %d: %w", n+1, err)
		}
		if err := to.Publish(ctx, "", queue, msg); err != nil {
			return n, fmt.Errorf("retry: import line %d: %w", n+1, err)
		}
		n++
	}
}

func lineOf(d *amqp.Delivery) line {
	return line{
		Headers: value{d.Headers}, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
		CorrelationID: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageID: d.MessageId, Timestamp: d.Timestamp,
		Type: d.Type, UserID: d.UserId, AppID: d.AppId, Body: d.Body,
	}
}

// publishing is the message again. RabbitMQ's own counts are left out, and so is what would act in the queue, as
// when parking.
func (l *line) publishing() (amqp.Publishing, error) {
	headers, ok := l.Headers.any.(amqp.Table)
	if !ok && l.Headers.any != nil {
		return amqp.Publishing{}, errors.New("headers are no table")
	}
	own := amqp.Table{}
	for k, v := range headers {
		if isOwn(k) {
			own[k] = v
		}
	}
	for name, v := range map[string]string{HeaderExpiration: l.Expiration, HeaderUserID: l.UserID} {
		if v != "" {
			own[name] = v
		}
	}
	if cc := headers["CC"]; cc != nil {
		own[HeaderCC] = cc
	}
	if _, known := own[HeaderQueue]; !known { // RabbitMQ dead-lettered it, and its own word for that goes
		m := Parked{}
		m.died(headers)
		if m.Queue != "" {
			own[HeaderQueue], own[HeaderExchange], own[HeaderKey], own[HeaderWhy] = m.Queue, m.Exchange, m.Key, m.Why
		}
	}
	return sendable(amqp.Publishing{
		Headers: headers, ContentType: l.ContentType, ContentEncoding: l.ContentEncoding, DeliveryMode: l.DeliveryMode, Priority: l.Priority,
		CorrelationId: l.CorrelationID, ReplyTo: l.ReplyTo, MessageId: l.MessageID, Timestamp: l.Timestamp, Type: l.Type, AppId: l.AppID, Body: l.Body,
	}, own, wire.MaxHeaders), nil
}
