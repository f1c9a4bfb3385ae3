package producer

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// Config of a Producer. The zero value is ready to use.
type Config struct {
	// AllowUnroutable publishes without the mandatory flag: RabbitMQ confirms and drops a message if no queue is bound
	// for it. Use it for events that may have no subscriber. The zero value reports such a message as *ReturnedError.
	AllowUnroutable bool

	// NoResend reports messages as ErrUnconfirmed if the connection is lost before their confirm: at most once. The
	// zero value sends them again, under the same message id and in their order, until each has an outcome or its ctx
	// ends: at least once, so consumers may receive a duplicate.
	NoResend bool

	// FailFast refuses a message with ErrNotPublished and the cause whenever it cannot be sent now: before the first
	// connection, while reconnecting, and while the broker blocks publishing (amqperr.ErrBlocked). This includes
	// messages that were accepted before and are not sent yet. Sent messages are not affected: after a loss of the
	// connection they are sent again as without FailFast. A full window still makes publishers wait. New does not open
	// the publishing connection; the first message does, and may be refused meanwhile, so call Producer.Ready first. The
	// zero value waits for a connection until ctx ends.
	FailFast bool

	// MaxInFlight is the maximum number of messages that wait to be sent or confirmed. If it is reached, publishers wait.
	// Zero means 1024; the limit is 65,535. A larger value costs memory and helps only on links of high latency.
	MaxInFlight int

	// MaxInFlightBytes is the maximum size of the bodies of these messages, in bytes. Zero means 64 MiB. A larger
	// message is sent when no other message is in flight.
	MaxInFlightBytes int

	// MaxMessageSize is the maximum size of a body, in bytes. The Producer refuses a larger one, because RabbitMQ would
	// close the channel. Zero means 16 MiB, RabbitMQ's default max_message_size.
	MaxMessageSize int

	// ConfirmTimeout is the maximum time that the oldest message in flight stays unconfirmed while the connection works,
	// for example because a quorum queue has lost its majority. After it, messages that have waited for at least half of
	// ConfirmTimeout end as ErrUnconfirmed. Younger ones are sent again over a new channel, so a message waits for at most
	// 1.5 times ConfirmTimeout. The time is stopped while the broker blocks publishing. Zero means 30 s. Set it above
	// the time that your largest message takes to send.
	ConfirmTimeout time.Duration

	// Logger logs warnings when messages are sent again and while no channel can be opened, and a line with the number of
	// messages for each outcome when the Producer is closed. Nil means the Logger of the Connection if it has one,
	// otherwise slog.Default.
	Logger *slog.Logger
}

func fault(field, problem, fix string) error {
	return &amqperr.FieldError{Package: "producer", Field: field, Problem: problem, Fix: fix}
}

func (c Config) withDefaults() Config {
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 1024
	}
	if c.MaxInFlightBytes == 0 {
		c.MaxInFlightBytes = 64 << 20
	}
	if c.MaxMessageSize == 0 {
		c.MaxMessageSize = validate.MaxBody
	}
	if c.ConfirmTimeout == 0 {
		c.ConfirmTimeout = 30 * time.Second
	}
	return c
}

func (c Config) validate() error {
	var faults []error
	if c.MaxInFlight < 1 || c.MaxInFlight > 65535 {
		faults = append(faults, fault("MaxInFlight", fmt.Sprintf("%d is outside 1 to 65535", c.MaxInFlight), "leave it zero for 1024"))
	}
	if c.MaxInFlightBytes < 1 {
		faults = append(faults, fault("MaxInFlightBytes", "is negative", "leave it zero for 64 MiB"))
	}
	if c.MaxMessageSize < 1 {
		faults = append(faults, fault("MaxMessageSize", "is negative", "leave it zero for 16 MiB"))
	}
	if c.ConfirmTimeout < 0 {
		faults = append(faults, fault("ConfirmTimeout", "is negative", "leave it zero for 30 s"))
	}
	return errors.Join(faults...)
}
