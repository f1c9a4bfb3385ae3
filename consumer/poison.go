package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	repeatedLoss = 2                // consecutive losses without a reason and without a settlement after which a message is suspected
	returnTime   = time.Minute      // the maximum time until messages that were unsettled at a loss are redelivered
	relapse      = time.Hour        // a poison message that is redelivered within this time increases the minimum lifetime
	maxMinLife   = 10 * time.Minute // the maximum of the minimum lifetime
	poisonLog    = time.Minute      // the interval between log lines about the same poison message
)

// PoisonError reports a message that closes the connection on every delivery. RabbitMQ 4 closes the connection with
// 541 INTERNAL_ERROR when it cannot translate a message from an AMQP 1.0 publisher, for example one with an
// application property of type uuid, char or map. A connection that was not opened by amqpkit is also lost on headers
// that amqp091-go cannot read, see [UnreadableError].
//
// After the first such loss, the subscription uses a prefetch of one, over a separate connection if the [Connection]
// can open one. So RabbitMQ does not count the queue's other messages as failed together with the poison message, and
// other consumers keep their connection. Err returns the PoisonError from the second loss on. Run subscribes again
// with growing pauses of at most 15 seconds. If a connection is lost without a reason, for example because RabbitMQ
// restarts, a message is suspected only after two consecutive losses with no settlement in between.
//
// The subscription returns to the full prefetch and the shared connection when it has lasted a second and either has
// settled Config.Prefetch messages or has been idle for a second. If every loss was without a reason, it returns
// after a minute at the latest. If the message closes a connection again within an hour, the minimum lifetime of a
// second is multiplied by eight, up to 10 minutes. The subscription finishes its message before it returns, so that
// no settlement is lost and no message is counted as failed. The new consumer starts before the old one is cancelled,
// so that an auto-delete queue keeps a consumer. With Config.Exclusive or Config.Key, and on a stream, it starts
// afterwards. A stream continues at its next offset; before its first delivery its subscription does not change. With
// Config.Declare the subscription keeps its separate connection, because an exclusive queue belongs to that
// connection.
//
// RabbitMQ passes the poison message from one consumer to the next, so the unacknowledged messages at the first loss
// are counted as failed once for every consumer of the queue. The queue therefore needs a delivery limit of at least
// the number of its consumers in all processes. Other queues on the connection need a limit of at least 1. With a
// limit of 0 their messages are dropped.
//
// A quorum queue drops or dead-letters the poison message at its delivery limit. Classic queues and streams keep it:
// remove the message with an AMQP 1.0 client, purge the queue, or start the stream at a later offset.
type PoisonError struct {
	Queue    string // the subscription's queue
	Attempts int    // consecutive lost connections
	Err      error  // the cause of the last loss, an *amqp.Error

	shared bool // the connection was shared, so the message may be in another queue
}

func (e *PoisonError) Error() string {
	where := "queue " + validate.Quote(e.Queue)
	if e.shared {
		where += ", or in another queue consumed over the same connection,"
	}
	return fmt.Sprintf("consumer: a message in %s has closed the connection %d times in a row; "+
		"a quorum queue drops or dead-letters the message at its delivery limit; from any other queue, remove it with an AMQP 1.0 client or by purging: %v",
		where, e.Attempts, validate.Unprefixed(e.Err))
}

func (e *PoisonError) Unwrap() error { return e.Err }

// A suspicion is the state of a Run that suspects a message of closing its connections. RabbitMQ requeues such a
// message at the head of its queue, together with the other unacknowledged ones, and redelivers it to the next
// subscription.
type suspicion struct {
	raised    bool            // the next subscription uses a prefetch of one
	dedicated bool            // the next subscription uses a separate connection
	losses    int             // consecutive losses
	hard      bool            // a connection was closed with a reason that a message can cause
	plain     int             // consecutive losses without a reason and without a settlement
	back      int             // unsettled messages at the last loss, which are redelivered
	found     bool            // the message is probably in this queue
	err       *PoisonError    // nil until found, and again after a subscription has passed its trial
	delays    backoff.BackOff // pauses between subscriptions while err is set

	// The following fields outlast the suspicion.
	minLife time.Duration // the minimum lifetime of a subscription
	settled time.Time     // when a suspicion was dropped whose message had been found, or while a message was held
	logged  time.Time     // when err was logged
	clear   time.Time     // when the last suspicion was dropped
	refused int           // failed attempts in a row to open a separate connection
}

// lost updates the suspicion after the loss of a session.
func (p *suspicion) lost(s *session, err *LostError) {
	switch {
	case wire.HardClose(err.Err):
		p.plain, p.hard = 0, true
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
	if !p.raised {
		s.log.InfoContext(s.state.ctx(), "consumer: a message may have closed the connection; consuming one message at a time for now", "role", s.role(), "error", err)
	}
	p.raised = true
	p.dedicated = p.dedicated || s.exposed()
	p.losses++
	p.back = s.ledger.open
	if p.plain > 0 {
		return // the network or the broker may be the cause
	}
	if s.trial == nil {
		if time.Since(p.settled) < relapse {
			p.minLife = min(8*p.minLife, maxMinLife)
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

// others raises the suspicion after a loss of the shared connection before this Run subscribed, because the message
// may be in the queue of this Run.
func (p *suspicion) others(at time.Time, err error) {
	if !p.raised && wire.HardClose(err) && at.After(p.clear) && time.Since(at) < returnTime {
		p.raised, p.dedicated, p.hard = true, true, true
	}
}

// drop ends the suspicion. held reports that a held message may have blocked other deliveries.
func (p *suspicion) drop(held bool) {
	kept := suspicion{minLife: provenAfter, logged: p.logged, clear: time.Now()}
	if p.found || held {
		kept.minLife, kept.settled = max(p.minLife, provenAfter), kept.clear
	}
	*p = kept
}

// pause returns the delay before the next subscription.
func (p *suspicion) pause() time.Duration { return p.delays.NextBackOff() }

// shouldLog reports whether to log the error again, and records the time if so.
func (p *suspicion) shouldLog() bool {
	now := time.Now()
	if now.Sub(p.logged) < poisonLog {
		return false
	}
	p.logged = now
	return true
}

// trial returns the condition for ending the suspicion.
func (p *suspicion) trial() *trial {
	return &trial{minLife: max(p.minLife, provenAfter), back: p.back, hard: p.hard, found: p.found}
}

// passed reports whether a session on trial has settled every message that was unsettled at the loss, or may stop
// waiting for them.
func (s *session) passed(now time.Time) bool {
	t := s.trial
	age := now.Sub(s.began)
	if age < t.minLife || s.state.cfg.streams() && s.ledger.end == 0 { // the stream has no position yet
		return false
	}
	if s.ledger.settled >= s.state.cfg.Prefetch {
		return true
	}
	if !t.hard && age >= returnTime { // slow handlers would take hours, and the network or the broker may be the cause
		return true
	}
	if held := len(s.held.heap); held > 0 && held == s.ledger.open {
		return !t.found || age >= returnTime // a held message blocks other deliveries, perhaps for long
	}
	return s.ledger.idle(now) >= provenAfter && (s.ledger.settled >= t.back || age >= returnTime)
}

// plain reports whether a connection was lost without a reason from the broker.
func plain(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && !e.Server
}

// poisonBackoff draws each delay from 0 to twice the interval: at most 0.1 s at first and 15 s later. A quorum queue
// with the default limit takes about ten seconds to drop the message.
func poisonBackoff() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithRandomizationFactor(1),
		backoff.WithMultiplier(1.2),
		backoff.WithMaxInterval(7500*time.Millisecond),
		backoff.WithMaxElapsedTime(0),
	)
}
