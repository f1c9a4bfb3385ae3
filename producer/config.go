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
	// AllowUnroutable publishes without the mandatory flag: a message that no queue is bound
	// for is confirmed and dropped, as publish/subscribe with no subscriber wants it. The zero
	// value reports it as *ReturnedError.
	AllowUnroutable bool

	// NoResend reports messages as ErrUnconfirmed if the connection is lost before their confirm: at most once. The
	// zero value sends them again, under the same message id and in their order, until each has an outcome or its ctx
	// ends: at least once, so consumers may receive a duplicate.
	NoResend bool

	// FailFast refuses a message with ErrNotPublished and the cause whenever it cannot be sent now: before the first
	// connection, while reconnecting, and while the broker blocks publishing (amqperr.ErrBlocked). This includes
	// messages that were accepted before and are not sent yet. Sent messages are not affected: after a loss of the
	// connection they are sent again as without FailFast. A full window still makes publishers wait. The zero value
	// waits for a connection until ctx ends.
	FailFast bool

	// MaxInFlight is how many messages may wait to be sent or confirmed; one more makes its
	// publisher wait. Zero means 1024; the limit is 65,535. More helps only on links of high
	// latency, and costs memory.
	MaxInFlight int

	// MaxInFlightBytes bounds the bodies of those messages. Zero means 64 MiB. A larger
	// message is sent when it is alone.
	MaxInFlightBytes int

	// MaxMessageSize is the largest body, in bytes. A larger one is refused here, because
	// RabbitMQ would close the channel. Zero means 16 MiB, RabbitMQ's default max_message_size.
	MaxMessageSize int

	// ConfirmTimeout is how long the broker may leave the oldest message in flight unconfirmed on
	// a living connection, as it does when a quorum queue has lost its majority. Then the
	// messages that have waited for half of it or more end as ErrUnconfirmed, and the others go
	// on over a new channel, which makes one and a half times as long for them at most. While
	// the broker blocks publishing, the time does not run. Zero means 30 s; a single message
	// must not take longer to send.
	ConfirmTimeout time.Duration

	// Logger gets a warning when messages are sent again, and while no channel can be opened. Nil means slog.Default.
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
