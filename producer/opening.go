package producer

import (
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	firstPause   = 100 * time.Millisecond // between failures to open a channel; it doubles
	longestPause = time.Second
)

// opening holds the failures to open a channel since the last success.
type opening struct {
	err   error // the last one, or nil
	pause time.Duration
}

// Kinds of warnings for logs.Limiter.
const (
	warnOpen   = "open"
	warnResend = "resend"
)

// pause waits after a failure to open a channel on ac and logs it. The Connection reports the loss of a connection.
func (p *Producer) pause(ac *amqp.Connection, err error) {
	if ac.IsClosed() && brokerError(err) == nil {
		return
	}
	o := &p.opening
	o.err = explainOpening(err)
	o.pause = min(max(2*o.pause, firstPause), longestPause)
	p.warnings.Warn(p.ctx, p.cfg.Logger, warnOpen, "producer: cannot open a channel, trying again", p.about(ac, o.err)...)
	why := o.err
	p.window.setObstacle(func() error { return why })
	select {
	case <-time.After(o.pause):
	case <-p.ctx.Done():
	}
}

// explainOpening adds the remedy to a failure to open a channel.
func explainOpening(err error) error {
	why := fmt.Errorf("cannot open a channel: %w", err)
	reason := brokerError(err)
	switch {
	case errors.Is(err, amqp.ErrChannelMax):
		return fmt.Errorf("%w; close channels that are not used, or raise RabbitMQ's channel_max", why)
	case reason != nil && reason.Code == amqp.NotAllowed:
		return fmt.Errorf("%w; close channels that are not used, or raise the user's max-channels (rabbitmqctl set_user_limits)", why)
	}
	return why
}
