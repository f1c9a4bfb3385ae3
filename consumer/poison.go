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
	repeatedLoss = 2                // connections lost without a reason, nothing settled on them, until a message is suspected
	returnTime   = time.Minute      // how long messages that were unsettled at a loss may take to be delivered again
	relapse      = time.Hour        // a poison message that returns sooner makes provenAfter longer
	longestCalm  = 10 * time.Minute // the longest time instead of provenAfter
	poisonLog    = time.Minute      // between two log lines about the same poison message
)

// PoisonError reports a message whose every delivery closes the connection. RabbitMQ 4 closes the connection
// with 541 INTERNAL_ERROR when it cannot translate a message from an AMQP 1.0 publisher, for example one with an
// application property of type uuid, char or map. A connection that amqpkit did not open is also lost to headers that
// amqp091-go cannot read, see [UnreadableError].
//
// After the first loss of that kind the subscription takes one message at a time, over a separate connection if the
// [Connection] can open one. The other messages of the queue are then not counted as failed with the poison
// message, and other consumers keep their connection. Err returns the PoisonError from the second loss. Run subscribes again
// with growing pauses of 15 seconds at most. A connection that is lost without a reason, as when RabbitMQ restarts, raises the
// suspicion when that happens twice with nothing settled in between.
//
// The subscription returns to the full prefetch and the shared connection when it has lasted a second and has settled
// Config.Prefetch messages or has been idle for a second; where no connection was lost with a reason, after a minute at the latest. After a relapse within an hour it takes eight times as long, 10
// minutes at most. It finishes its message first, so that nothing is lost or counted. The new consumer starts before the old
// one is cancelled, so that an auto-delete queue keeps a consumer; with Config.Exclusive or Config.Key, and on a stream, it
// starts afterwards. A stream continues at its next offset, and stays as it is before its first delivery. With Config.Declare
// the subscription keeps its separate connection, because an exclusive queue belongs to it.
//
// The unacknowledged messages at the first loss are counted as failed once for every consumer of the queue, because RabbitMQ passes the
// poison message from one to the next. So the queue needs a delivery limit of at least the number of its consumers, in all
// processes; other queues on the connection need a limit of 1. With a limit of 0 they are dropped.
//
// A quorum queue drops or dead-letters the poison message at its delivery limit. Classic queues and streams keep
// it: remove the message with an AMQP 1.0 client, purge the queue, or begin behind it in the stream.
type PoisonError struct {
	Queue    string // the subscription's queue
	Attempts int    // connections lost in a row
	Err      error  // how the last one was lost, an *amqp.Error

	shared bool // the connection was: the message may be in another queue
}

func (e *PoisonError) Error() string {
	where := "queue " + validate.Quote(e.Queue)
	if e.shared {
		where += ", or in another one consumed over the same connection,"
	}
	return fmt.Sprintf("consumer: a message in %s has closed the connection %d times in a row; "+
		"a quorum queue's delivery limit ends this (give it a dead-letter exchange), else remove the message with an AMQP 1.0 client or by purging: %v",
		where, e.Attempts, e.Err)
}

func (e *PoisonError) Unwrap() error { return e.Err }

// A suspicion is the state of a Run that suspects a message of closing its connections. Such a message returns to the head of
// its queue together with the unacknowledged ones, and is delivered again to the next subscription.
type suspicion struct {
	raised bool            // the next subscription takes one message at a time
	alone  bool            // over a separate connection
	losses int             // in a row
	hard   bool            // a connection was closed for a reason that a message can be
	plain  int             // connections lost in a row without a reason, nothing settled on them
	back   int             // unsettled messages at the last loss, which are redelivered
	found  bool            // the message is in this queue, as far as that can be known
	err    *PoisonError    // nil until found, and when a subscription is clear of it
	delays backoff.BackOff // pauses, since err is set

	// Kept after the suspicion.
	calm    time.Duration // the minimum life of a subscription
	settled time.Time     // when a suspicion was dropped after its message was found, or while a message was held
	told    time.Time     // when err was logged
	clear   time.Time     // when the last suspicion was dropped
	refused int           // failed attempts in a row to open a separate connection
}

// lost takes note of the end of a subscription.
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
	p.alone = p.alone || s.exposed()
	p.losses++
	p.back = s.ledger.open
	if p.plain > 0 {
		return // the network or the broker is as likely
	}
	if s.trial == nil {
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

// others raises the suspicion after a loss of the shared connection before this Run subscribed: the message may be in its
// queue.
func (p *suspicion) others(at time.Time, err error) {
	if !p.raised && wire.HardClose(err) && at.After(p.clear) && time.Since(at) < returnTime {
		p.raised, p.alone, p.hard = true, true, true
	}
}

// over drops the suspicion; held reports that a held message may have kept others away.
func (p *suspicion) over(held bool) {
	kept := suspicion{calm: provenAfter, told: p.told, clear: time.Now()}
	if p.found || held {
		kept.calm, kept.settled = max(p.calm, provenAfter), kept.clear
	}
	*p = kept
}

// pause returns how long to wait before the next subscription.
func (p *suspicion) pause() time.Duration { return p.delays.NextBackOff() }

// tell reports whether to log the error again.
func (p *suspicion) tell() bool {
	now := time.Now()
	if now.Sub(p.told) < poisonLog {
		return false
	}
	p.told = now
	return true
}

// trial returns the condition for ending the suspicion.
func (p *suspicion) trial() *trial {
	return &trial{calm: max(p.calm, provenAfter), back: p.back, hard: p.hard, found: p.found}
}

// passed reports whether a session on trial has passed every message that was unsettled at the loss.
func (s *session) passed(now time.Time) bool {
	t := s.trial
	age := now.Sub(s.began)
	if age < t.calm || s.state.cfg.streams() && s.ledger.end == 0 { // a stream has no position yet
		return false
	}
	if s.ledger.settled >= s.state.cfg.Prefetch {
		return true
	}
	if !t.hard && age >= returnTime { // with slow handlers the rest would take hours, and the network or the broker is as likely
		return true
	}
	if held := len(s.held.heap); held > 0 && held == s.ledger.open {
		return !t.found || age >= returnTime // a held message keeps others away, perhaps for long
	}
	return s.ledger.idle(now) >= provenAfter && (s.ledger.settled >= t.back || age >= returnTime)
}

// plain reports whether a connection was lost without the broker's word.
func plain(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && !e.Server
}

// poisonBackoff draws each delay from 0 to twice the interval: 0.1 s at first, 15 s at most. A quorum queue with the default
// limit takes about ten seconds.
func poisonBackoff() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithRandomizationFactor(1),
		backoff.WithMultiplier(1.2),
		backoff.WithMaxInterval(7500*time.Millisecond),
		backoff.WithMaxElapsedTime(0),
	)
}
