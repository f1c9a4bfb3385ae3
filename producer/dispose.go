package producer

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// dispose decides about what the closed channel left without an outcome.
func (s *session) dispose(reason *amqp.Error) {
	w := s.p.window
	if _, limit, ok := tooLarge(reason); ok {
		s.p.maxSize.Store(int64(limit)) // the next one is refused before the wire
	}
	var cause error = amqp.ErrClosed
	switch {
	case reason != nil:
		cause = reason
	case s.hasExpired():
		cause = fmt.Errorf("%w of %v", ErrConfirmTimeout, s.p.cfg.ConfirmTimeout)
	}
	// amqp091-go fails what is outstanding in no order, and a sweep may have seen half of it.
	slices.SortFunc(s.lost, func(a, b *Receipt) int { return cmp.Compare(a.tag(), b.tag()) })
	blamed := blame(reason, s.lost)
	var again []*Receipt
	for _, r := range s.lost {
		why := cause
		if r.sendErr != nil {
			why = r.sendErr
		}
		if s.p.ctx.Err() == nil && (s.p.cfg.Resend == Never || s.isLate(r) || blamed(r)) {
			w.finish(r, r.failure(ErrUnconfirmed, why))
			continue
		}
		w.mark(r, why)
		again = append(again, r)
	}
	if n := len(again); n > 0 && s.p.ctx.Err() == nil {
		s.p.cfg.Logger.Warn("producer: channel closed, unconfirmed messages are to be sent again", "messages", n, "error", cause)
	}
	if s.unsent != nil {
		again = append(again, s.unsent)
	}
	w.requeue(again)
}

// isLate reports whether r is given up because the oldest message was overdue. What was sent
// within the same burst is, too: sent again, it would wait as long, and be there twice.
func (s *session) isLate(r *Receipt) bool {
	return !s.overdue.IsZero() && s.overdue.Sub(r.sentAt) >= s.p.cfg.ConfirmTimeout/2
}

// maxStrikes is how often RabbitMQ may break down (541) over a message in flight: it does so
// over some that it cannot handle, and sending those again would never end.
const maxStrikes = 3

// blame returns which of the lost messages the broker may have closed the channel or the
// connection for: sent again, they would do the same again. Where an exchange is missing or
// may not be written to, RabbitMQ names it, in a text that is cut off at 255 bytes. Else it
// names nothing.
func blame(reason *amqp.Error, lost []*Receipt) func(*Receipt) bool {
	all := func(*Receipt) bool { return true }
	none := func(*Receipt) bool { return false }
	if reason == nil || !reason.Server {
		return none
	}
	switch reason.Code {
	case amqp.NotFound, amqp.AccessRefused:
		_, rest, found := strings.Cut(reason.Reason, "exchange '")
		named := func(r *Receipt) bool { return strings.HasPrefix(rest, r.msg.Exchange+"'") }
		if found && !strings.Contains(rest, "'") {
			start := strings.TrimSuffix(rest, "...")
			named = func(r *Receipt) bool { return strings.HasPrefix(r.msg.Exchange, start) }
		}
		if found && slices.ContainsFunc(lost, named) {
			return named
		}
		return all
	case amqp.PreconditionFailed:
		if size, _, ok := tooLarge(reason); ok {
			return func(r *Receipt) bool { return len(r.msg.Publishing.Body) == size }
		}
	case amqp.InternalError:
		return func(r *Receipt) bool { r.strikes++; return r.strikes >= maxStrikes }
	case amqp.ConnectionForced, amqp.ResourceError:
		return none
	}
	return all
}

var tooLargeText = regexp.MustCompile(`message size (\d+) is larger than (?:configured )?max size (\d+)`)

// tooLarge reads out of the reason which size the broker refused, and its max_message_size.
func tooLarge(reason *amqp.Error) (size, limit int, ok bool) {
	if reason == nil || reason.Code != amqp.PreconditionFailed {
		return 0, 0, false
	}
	m := tooLargeText.FindStringSubmatch(reason.Reason)
	if m == nil {
		return 0, 0, false
	}
	size, _ = strconv.Atoi(m[1])
	limit, _ = strconv.Atoi(m[2])
	return size, limit, limit > 0
}
