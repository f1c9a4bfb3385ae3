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

	firstSilence   = time.Second // between warnings about that; it doubles
	longestSilence = time.Minute
)

// opening follows failures to open a channel.
type opening struct {
	err     error // the last failure, or nil
	pause   time.Duration
	silence time.Duration
	warn    time.Time // when the next warning is due
}

// pause waits after a failure to open a channel on ac, and warns of it now and then. The failure of
// a connection that is lost is the connection's to report.
func (p *Producer) pause(ac *amqp.Connection, err error) {
	if ac.IsClosed() && brokerError(err) == nil {
		return
	}
	o := &p.opening
	o.err = explainOpening(err)
	o.pause = min(max(2*o.pause, firstPause), longestPause)
	if now := time.Now(); !now.Before(o.warn) {
		o.silence = min(max(2*o.silence, firstSilence), longestSilence)
		o.warn = now.Add(o.silence)
		p.cfg.Logger.Warn("producer: cannot open a channel, trying again", "error", o.err, "next_warning_in", o.silence)
	}
	why := o.err
	p.window.stall(func() error { return why })
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
