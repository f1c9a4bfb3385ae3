package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// suspectAfter is how many subscriptions in a row must be lost to a frame that cannot be read,
// with nothing settled, for a message to be suspected.
const suspectAfter = 3

// PoisonError reports that a message that cannot be read costs the connection each time it is
// delivered. amqp091-go refuses headers that are nested deeper than 32 or have more than 8192
// entries in one table, and a frame larger than agreed, which RabbitMQ sends when it adds its
// own headers to a redelivery whose headers filled a frame. RabbitMQ delivers such a message
// again and again.
//
// Err returns it when three subscriptions in a row, that had settled nothing, were lost so. Run
// then tries again with growing pauses, of 15 seconds at most, and takes one message at a
// time, so that those around it are not counted as failed with it; until a subscription has
// settled Config.Prefetch messages, or stands for a second with nothing to do. Other queues
// consumed over the same connection lose it too, and are suspected as well where nothing is
// settled in between: the message is in one of them.
//
// A quorum queue ends it by itself, when the message has been delivered as often as its delivery
// limit allows: it drops the message, or dead-letters it. Otherwise somebody has to remove
// it, with a tool that can read it or by purging the queue; in a stream, begin behind it.
type PoisonError struct {
	Queue    string // the subscription's; the message may be in another one of the connection
	Attempts int    // subscriptions lost in a row
	Err      error  // how the connection was lost, an *amqp.Error
}

func (e *PoisonError) Error() string {
	return fmt.Sprintf("consumer: a message in queue %s, or in another one consumed over the same connection, cannot be read and has cost the connection %d times in a row; "+
		"a quorum queue's delivery limit ends this (give it a dead-letter exchange), else remove the message with a tool that can read it: %v",
		wire.Quote(e.Queue), e.Attempts, e.Err)
}

func (e *PoisonError) Unwrap() error { return e.Err }

// A suspicion is what a Run knows of a message that cannot be read. Such a message returns to the
// head of its queue, at most behind those that were in hand along with it, and comes as soon as
// a subscription stands.
type suspicion struct {
	losses int             // in a row
	err    *PoisonError    // nil until there were enough
	delays backoff.BackOff // from then on
	told   bool            // in the log
}

// lost takes note of the end of a subscription. One that is proven met other messages, or none.
func (p *suspicion) lost(err *LostError, proven bool) {
	switch {
	case proven:
		*p = suspicion{told: p.told && unreadable(err)}
	case unreadable(err):
		p.losses++
		if p.losses < suspectAfter {
			return
		}
		if p.err == nil {
			p.delays = poisonBackoff()
		}
		p.err = &PoisonError{Queue: err.Queue, Attempts: p.losses, Err: err.Err}
	}
}

// unreadable reports whether amqp091-go gave the connection up for a frame that it could not
// read. Its code is 501 whatever went wrong with reading; only the text tells.
func unreadable(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && !e.Server &&
		(e.Reason == amqp.ErrSyntax.Error() || e.Reason == amqp.ErrFrameTooLarge.Error())
}

// poisonBackoff draws each delay from 0 to twice the interval: 1 s at first, 15 s at most.
func poisonBackoff() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(500*time.Millisecond),
		backoff.WithRandomizationFactor(1),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(7500*time.Millisecond),
		backoff.WithMaxElapsedTime(0),
	)
}

// trust ends the suspicion: the subscription has settled as many messages as could have been in
// hand with the one that cannot be read, or has nothing to do.
func (s *session) trust() {
	s.suspect = false
	s.run.poison = suspicion{}
	s.subscribedAgain()
	if s.narrow {
		s.widen()
	}
}

// widen takes up the full prefetch, which RabbitMQ gives only to a new consumer. The old one is
// cancelled after it: an auto-delete queue goes with its last consumer. A failure means that
// the channel is gone, which closed reports.
func (s *session) widen() {
	s.narrow = false
	calls, cancel := context.WithTimeoutCause(s.run.calls, subscribeTime, errNoSubscribe)
	defer cancel()
	tag, deliveries := s.tag, s.deliveries
	err := s.begin(calls, s.run.cfg.Prefetch)
	if err == nil {
		err = wire.Do(calls, s.ac, func() error { return s.ch.Cancel(tag, false) })
	}
	if err != nil {
		s.log.Debug("consumer: prefetch not widened", "err", err)
		return
	}
	for d := range deliveries { // closed by Cancel
		s.arrive(d)
	}
}
