package parking

import (
	"errors"
	"fmt"
	"strings"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// ErrScanTimeout reports that a scan ended before the last message. A scan holds the messages that stay in the queue, and RabbitMQ closes a channel
// that holds a message for longer than the consumer timeout. So a scan ends ten minutes after the first of them. Run it again for the rest.
var ErrScanTimeout = errors.New("parking: scan ended after ten minutes, before RabbitMQ's consumer timeout; run it again")

// A BlockedError reports that RabbitMQ cannot deliver the next message of a queue to an AMQP 0-9-1 client, and closes the connection at
// each attempt. An example is a message from an AMQP 1.0 publisher with an application property of type uuid, char or map. The messages
// before it were processed. Remove it with an AMQP 1.0 client to reach the ones behind it.
type BlockedError struct {
	Queue string // the queue that was scanned
	err   error
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("parking: queue %s is blocked by a message that RabbitMQ cannot deliver; the messages before it were processed; "+
		"remove it with an AMQP 1.0 client: %v", validate.Quote(e.Queue), e.err)
}

// Unwrap returns how the connection was lost, an *amqp.Error.
func (e *BlockedError) Unwrap() error { return e.err }

// A SkippedError reports messages that were skipped, with the message ids or lines of the first ten. No message is lost: Peek, Export and
// Replay leave it in its queue, Import leaves it in the file. It wraps the first ten causes: a *consumer.UnreadableError for a
// message with unreadable headers, otherwise the Publisher's error.
type SkippedError struct {
	Count int // number of skipped messages

	causes []error
}

func (e *SkippedError) Error() string {
	s := fmt.Sprintf("parking: %d messages were skipped: %s", e.Count, strings.ReplaceAll(errors.Join(e.causes...).Error(), "\n", "; "))
	if more := e.Count - len(e.causes); more > 0 {
		s += fmt.Sprintf("; and %d more", more)
	}
	return s
}

// Unwrap returns the first ten causes.
func (e *SkippedError) Unwrap() []error { return e.causes }

func (e *SkippedError) add(cause error) {
	if e.Count++; len(e.causes) < 10 {
		e.causes = append(e.causes, cause)
	}
}

// join returns err together with e, if a message was skipped.
func (e *SkippedError) join(err error) error {
	if e.Count > 0 {
		err = errors.Join(e, err)
	}
	return err
}
