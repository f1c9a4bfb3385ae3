package parking

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A line is an exported message: one JSON object a line. Body is base64, Timestamp {"time":seconds}.
type line struct {
	Headers         value  `json:"headers"`
	ContentType     octets `json:"content_type,omitempty"`
	ContentEncoding octets `json:"content_encoding,omitempty"`
	DeliveryMode    uint8  `json:"delivery_mode,omitempty"`
	Priority        uint8  `json:"priority,omitempty"`
	CorrelationID   octets `json:"correlation_id,omitempty"`
	ReplyTo         octets `json:"reply_to,omitempty"`
	Expiration      octets `json:"expiration,omitempty"`
	MessageID       octets `json:"message_id,omitempty"`
	Timestamp       value  `json:"timestamp,omitzero"`
	Type            octets `json:"type,omitempty"`
	UserID          octets `json:"user_id,omitempty"`
	AppID           octets `json:"app_id,omitempty"`
	Body            []byte `json:"body"`
}

// Export writes the messages of a parking queue, or of any other, to w: one JSON object a line, from which Import
// makes the same messages again, whatever bytes they are of. They stay in the queue. It returns how many it wrote; those of
// a Write that failed are among them. Messages that cannot be read are not written, and named by the error as in [Replay].
func Export(ctx context.Context, conn consumer.Connection, queue string, w io.Writer) (n int, err error) {
	l, err := lookInto(ctx, conn, queue, defaultHold)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.stays(), l.close(ctx)) }()
	out := json.NewEncoder(w)
	for {
		ds, err := l.next(ctx, replayWindow)
		if err != nil || len(ds) == 0 {
			return n, err
		}
		for _, d := range ds {
			if err := out.Encode(lineOf(&d)); err != nil {
				return n, fmt.Errorf("parking: export message %s: %w", validate.Quote(d.MessageId), err)
			}
			n++
		}
	}
}

// Import publishes what Export wrote to a queue, the parking queue as a rule, each line confirmed before the next is read. It
// returns how many messages it published.
//
// It continues past a message that the Publisher refuses (a [amqperr.FieldError], as for a body that is too large), and reports these
// at the end with a *[SkippedError]. It returns at any other error, which would concern the next message too: a line that is not a
// message, a missing or full queue, the end of ctx, a closed Producer. The error names the line; it may have been published if the
// outcome is unknown, and later lines were not.
//
// Headers that do not fit into a frame are left out, named in [history.HeaderDropped] and logged with slog.Default, as when parking.
func Import(ctx context.Context, to Publisher, queue string, r io.Reader) (n int, err error) {
	in := json.NewDecoder(bufio.NewReader(r))
	in.DisallowUnknownFields() // another file's lines are no messages
	var skipped SkippedError
	for number := 1; ; number++ {
		var l line
		if err := in.Decode(&l); errors.Is(err, io.EOF) {
			return n, skipped.err()
		} else if err != nil {
			return n, errors.Join(skipped.err(), fmt.Errorf("parking: import line %d: %w", number, err))
		}
		o, err := l.outgoing()
		if err == nil {
			err = o.Republish(ctx, to, "", queue)
		}
		var refused *amqperr.FieldError
		switch {
		case err == nil:
			o.Log(ctx, slog.Default().With("to", queue), "parking: message changed by its move")
			n++
		case errors.As(err, &refused):
			skipped.add(fmt.Errorf("parking: import line %d: %w", number, err))
		default:
			return n, errors.Join(skipped.err(), fmt.Errorf("parking: import line %d: %w", number, err))
		}
	}
}

func lineOf(d *amqp.Delivery) line {
	l := line{
		Headers: value{d.Headers}, ContentType: octets(d.ContentType), ContentEncoding: octets(d.ContentEncoding), DeliveryMode: d.DeliveryMode,
		Priority: d.Priority, CorrelationID: octets(d.CorrelationId), ReplyTo: octets(d.ReplyTo), Expiration: octets(d.Expiration),
		MessageID: octets(d.MessageId), Type: octets(d.Type), UserID: octets(d.UserId), AppID: octets(d.AppId), Body: d.Body,
	}
	if !d.Timestamp.IsZero() {
		l.Timestamp = value{d.Timestamp}
	}
	return l
}

// outgoing is the message again. RabbitMQ's own counts are left out, and so is what would act in the queue, as
// when parking.
func (l *line) outgoing() (*history.Copy, error) {
	headers, ok := l.Headers.any.(amqp.Table)
	if !ok && l.Headers.any != nil {
		return nil, errors.New("headers are no table")
	}
	timestamp, ok := l.Timestamp.any.(time.Time)
	if !ok && l.Timestamp.any != nil {
		return nil, errors.New("timestamp is no time")
	}
	return history.NewCopy(amqp.Publishing{
		Headers: headers, ContentType: string(l.ContentType), ContentEncoding: string(l.ContentEncoding), DeliveryMode: l.DeliveryMode,
		Priority: l.Priority, CorrelationId: string(l.CorrelationID), ReplyTo: string(l.ReplyTo), Expiration: string(l.Expiration), MessageId: string(l.MessageID),
		Timestamp: timestamp, Type: string(l.Type), UserId: string(l.UserID), AppId: string(l.AppID), Body: l.Body,
	}, told(headers)), nil
}
