package parking

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/amqpjson"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// Export writes the messages of a parking queue, or of any other queue except a stream, to w. Each is one line, a JSON object
// from which Import publishes the same message again, whatever bytes it contains. The messages stay in the queue. Export returns the number
// of messages that it has written. It reports messages that it cannot read as [Peek] does.
func Export(ctx context.Context, conn consumer.Connection, queue string, w io.Writer) (n int, err error) {
	out := json.NewEncoder(w)
	err = Walk(ctx, conn, queue, math.MaxInt, func(m Message) error {
		if err := out.Encode(amqpjson.Encode(m.Publishing)); err != nil {
			return fmt.Errorf("parking: export message %s: %w", validate.Quote(m.Publishing.MessageId), err)
		}
		n++
		return nil
	})
	return n, err
}

// Import publishes the messages that Export wrote to a queue, usually the parking queue. Each is confirmed before the next line is read. Import
// returns the number of published messages.
//
// It continues after a message that the Publisher refuses (a *[amqperr.FieldError], for example for a body that is too large), and reports
// such lines at the end with a *[SkippedError]. It returns at any other error, because the next message would fail too: a line that is not a
// message, a missing or full queue, the end of ctx, a closed Producer. The error names the line. That message may have been published
// if the outcome is unknown; later ones were not.
//
// A header that does not fit into a frame is left out, named in the header x-amqpkit-dropped, and logged to the Producer's Logger.
func Import[R interface{ Wait(context.Context) error }](ctx context.Context, to Publisher[R], queue string, r io.Reader) (n int, err error) {
	if err := checkQueue("queue", queue); err != nil {
		return 0, err
	}
	in := json.NewDecoder(r)
	var skipped SkippedError
	for number := 1; ; number++ {
		var line map[string]any
		err := in.Decode(&line)
		if errors.Is(err, io.EOF) {
			return n, skipped.join(nil)
		}
		var msg amqp.Publishing
		if err == nil {
			msg, err = amqpjson.Decode(line)
		}
		m := &outgoing{key: queue, copy: history.NewCopy(msg, history.Latest(msg.Headers))}
		if err == nil {
			publish(ctx, to, []*outgoing{m})
			err = m.err
		}
		var refused *amqperr.FieldError
		switch {
		case err == nil:
			m.copy.Log(ctx, logs.For(nil, to).With("to", queue), "parking: message changed by its import")
			n++
		case errors.As(err, &refused):
			skipped.add(fmt.Errorf("line %d: %w", number, validate.Unprefixed(err)))
		default:
			return n, skipped.join(fmt.Errorf("parking: import line %d: %w", number, validate.Unprefixed(err)))
		}
	}
}
