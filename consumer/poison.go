package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	repeatedLoss = 2                // connections lost without a reason, nothing settled on them, until a message is suspected
	returnTime   = time.Minute      // how long messages that were unsettled at a loss may take to be delivered again
	relapse      = time.Hour        // a poison message that returns sooner makes provenAfter longer
	longestCalm  = 10 * time.Minute // the longest time instead of provenAfter
	poisonLog    = time.Minute      // between two log lines about the same poison message
)

// PoisonError reports a message that costs the connection each time RabbitMQ delivers it. RabbitMQ 4 closes the connection
// with 541 INTERNAL_ERROR when it cannot translate a message from an AMQP 1.0 publisher, for example one with an
// application property of type uuid, char or map. A connection that amqpkit did not open is also lost to headers that
// amqp091-go cannot read, see [UnreadableError].
//
// After the first loss of that kind the subscription takes one message at a time, over a connection of its own if the
// Connection is a [DedicatedConnector]. The other messages of the queue are then not counted as failed with the poison
// message, and other consumers keep their connection. Err returns the PoisonError from the second loss. Run subscribes again
// with growing pauses of 15 seconds at most. It returns to the full prefetch and the shared connection when a
// subscription has lasted a second and has settled Config.Prefetch messages or has been idle for a second; after a
// relapse it takes more time. A subscription with Config.Declare takes the full prefetch but keeps its own connection, because
// an exclusive queue belongs to it. A connection that is lost without a reason, as when RabbitMQ restarts, raises the suspicion
// when it happens twice with nothing settled in between.
//
// The messages in hand at the first loss are counted as failed once for every consumer of the queue, because RabbitMQ passes the
// poison message from one to the next. So the queue needs a delivery limit of at least the number of its consumers, in all
// processes; other queues on the connection need a limit of 1. With a limit of 0 the messages in hand are dropped.
//
// A quorum queue drops or dead-letters the poison message at its delivery limit. In a classic queue or a stream nothing ends
// it: remove the message with an AMQP 1.0 client, purge the queue, or begin behind it in the stream.
type PoisonError struct {
	Queue    string // the subscription's queue
	Attempts int    // connections lost in a row
	Err      error  // how the last one was lost, an *amqp.Error

	shared bool // the connection was: the message may be in another queue
}

func (e *PoisonError) Error() string {
	where := "queue " + wire.Quote(e.Queue)
	if e.shared {
		where += ", or in another one consumed over the same connection,"
	}
	return fmt.Sprintf("consumer: a message in %s has cost the connection %d times in a row; "+
		"a quorum queue's delivery limit ends this (give it a dead-letter exchange), else remove the message with an AMQP 1.0 client or by purging: %v",
		where, e.Attempts, e.Err)
}

func (e *PoisonError) Unwrap() error { return e.Err }

// A suspicion is what a Run knows of a message that costs the connection. Such a message returns to the head of its queue
// together with those that were in hand, and is delivered again as soon as a subscription stands.
type suspicion struct {
	raised bool            // the next subscription takes one message at a time
	alone  bool            // over a connection of its own
	losses int             // in a row
	plain  int             // connections lost in a row without a reason, nothing settled on them
	back   int             // messages that were unsettled at the last loss, and return
	found  bool            // the message is in this queue, as far as that can be known
	err    *PoisonError    // nil until found, and when a subscription is clear of it
	delays backoff.BackOff // pauses, since err is set

	// Kept when the suspicion is over.
	calm    time.Duration // how long a subscription must last
	settled time.Time     // when the suspicion of a message that was found was over
	told    time.Time     // when err was logged
	clear   time.Time     // when the suspicion was over
	refused int           // connections in a row that could not be had
}

// lost takes note of the end of a subscription.
func (p *suspicion) lost(s *session, err *LostError) {
	switch {
	case wire.HardClose(err.Err):
		p.plain = 0
	case !plain(err.Err):
		return
	case s.progress || !s.exposed():
		p.plain = 0
		return
	default:
		if p.plain++; p.plain < repeatedLoss {
			return
		}
	}
	p.raised = true
	p.alone = p.alone || s.exposed()
	p.losses++
	p.back = s.ledger.open
	if p.plain > 0 {
		return // the network or the broker is as likely
	}
	if !s.narrow {
		if time.Since(p.settled) < relapse {
			p.calm = min(8*p.calm, longestCalm)
		}
		return
	}
	if !s.own && s.progress {
		return
	}
	if p.err == nil || s.progress {
		p.delays = poisonBackoff()
	}
	p.found = true
	p.err = &PoisonError{Queue: err.Queue, Attempts: p.losses, Err: err.Err, shared: !s.own}
}

// others raises the suspicion after a loss that others saw: the message may be in the queue of a subscription that was not
// there then.
func (p *suspicion) others(at time.Time, err error) {
	if !p.raised && wire.HardClose(err) && at.After(p.clear) && time.Since(at) < returnTime {
		p.raised, p.alone = true, true
	}
}

// over ends the suspicion.
func (p *suspicion) over() {
	kept := suspicion{calm: provenAfter, told: p.told, clear: time.Now()}
	if p.found {
		kept.calm, kept.settled = max(p.calm, provenAfter), kept.clear
	}
	*p = kept
}

// pause returns how long to wait before the next subscription.
func (p *suspicion) pause() time.Duration { return p.delays.NextBackOff() }

// tell reports whether the error is to be logged again.
func (p *suspicion) tell() bool {
	now := time.Now()
	if now.Sub(p.told) < poisonLog {
		return false
	}
	p.told = now
	return true
}

// exposed reports whether a message of this session may have cost the connection: there were some in hand, or it had just begun.
func (s *session) exposed() bool { return s.ledger.open > 0 || time.Since(s.began) < provenAfter }

// proven reports whether the session has gone past every message that was in hand at the loss.
func (s *session) proven(now time.Time) bool {
	p := &s.run.poison
	age := now.Sub(s.began)
	if age < max(p.calm, provenAfter) || s.run.cfg.streams() && s.ledger.end == 0 { // a stream has no position yet
		return false
	}
	if s.ledger.settled >= s.run.cfg.Prefetch {
		return true
	}
	return s.ledger.idle(now) >= provenAfter && (s.ledger.settled >= p.back || age >= returnTime)
}

// plain reports whether a connection was lost without the broker's word.
func plain(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && !e.Server
}

// poisonBackoff draws each delay from 0 to twice the interval: 0.1 s at first, 15 s at most. The attempts that a quorum queue
// allows by default are over within half a minute.
func poisonBackoff() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithRandomizationFactor(1),
		backoff.WithMultiplier(1.2),
		backoff.WithMaxInterval(7500*time.Millisecond),
		backoff.WithMaxElapsedTime(0),
	)
}
