package producer

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// settleLost handles the messages without an outcome after the channel was closed. A refused one gets its outcome, the
// others are sent again.
func (s *session) settleLost(reason *amqp.Error) {
	w := s.p.window
	if _, limit, ok := tooLarge(reason); ok {
		s.p.maxSize.Store(int64(limit)) // the next one is refused locally
	}
	var cause error = amqp.ErrClosed
	switch {
	case reason != nil:
		cause = reason
	case s.hasExpired():
		cause = fmt.Errorf("%w of %v", ErrConfirmTimeout, s.p.cfg.ConfirmTimeout)
	}
	// amqp091-go fails the outstanding confirmations in random order.
	slices.SortFunc(s.lost, func(a, b *Receipt) int { return cmp.Compare(a.tag(), b.tag()) })
	refused := s.attribute(reason)
	var again []*Receipt
	for _, r := range s.lost {
		why := cause
		if r.sendErr != nil {
			why = r.sendErr
		}
		switch {
		case refused[r] && len(refused) == 1:
			w.finish(r, r.failure(ErrNotPublished, explain(reason, r)))
		case refused[r]: // some of them may have been stored before the refusal
			w.finish(r, r.failure(ErrUnconfirmed, explain(reason, r)))
		case s.p.ctx.Err() == nil && (s.p.cfg.NoResend || s.isLate(r) || r.faults >= maxFaults):
			w.finish(r, r.failure(ErrUnconfirmed, why))
		default:
			w.setUnknown(r, why)
			again = append(again, r)
		}
	}
	if n := len(again); n > 0 && s.p.ctx.Err() == nil {
		if s.worked { // a new outage
			s.p.warnings.Reset(warnResend)
		}
		s.p.warnings.Warn(s.p.ctx, s.p.cfg.Logger, warnResend, "producer: channel closed, sending unconfirmed messages again",
			append(s.p.about(s.ac, cause), slog.Int("messages", n))...)
	}
	if s.unsent != nil {
		again = append(again, s.unsent)
	}
	w.requeue(again)
}

// isLate reports whether r is given up because the oldest message was overdue. This includes messages of
// the same burst: if they were sent again, they would wait as long and be stored twice.
func (s *session) isLate(r *Receipt) bool {
	return !s.overdue.IsZero() && s.overdue.Sub(r.sentAt) >= s.p.cfg.ConfirmTimeout/2
}

// maxFaults is the number of times that a message may be in flight when the broker closes the channel or the
// connection for a reason that names no message, such as an internal error (541). RabbitMQ closes it because of some
// messages that it cannot handle, and sending them again would never end. The last attempt sends the message
// alone (see window.head), so that no other message is given up with it.
const maxFaults = 3

// attribute returns the lost messages that the broker's reason names. If it names none of them, it
// counts a fault against each.
func (s *session) attribute(reason *amqp.Error) (refused map[*Receipt]bool) {
	if reason == nil || !reason.Server {
		return nil
	}
	switch reason.Code {
	case amqp.ConnectionForced, amqp.ResourceError, amqp.NotAllowed: // never because of a message
		return nil
	}
	refused = map[*Receipt]bool{}
	for _, r := range s.lost {
		if names(reason, r) {
			refused[r] = true
		}
	}
	if len(refused) > 0 {
		var only *Receipt
		for r := range refused {
			if len(refused) == 1 {
				only = r
			}
		}
		s.p.refusals.add(reason, only, false, time.Now())
		return refused
	}
	for _, r := range s.lost {
		r.faults++
	}
	return nil
}
