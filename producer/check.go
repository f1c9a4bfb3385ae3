package producer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// check makes sure that r's exchange exists, because RabbitMQ closes the channel over a missing one
// and every message in flight loses its outcome. If the exchange is missing, check gives r its outcome.
// ok is false if the connection was closed.
//
// It also refuses headers that are too large for this connection's frames, and the user id of
// another user.
func (s *session) check(r *Receipt, batch *wire.Batch) (exists, ok bool) {
	if most := s.ac.Config.FrameSize; most > 0 && int(r.header) > most-validate.FrameOverhead {
		s.p.window.finish(r, r.failure(ErrNotPublished, oversize(r, most)))
		return false, true
	}
	if refused := s.p.refusals.find(r); refused != nil {
		s.p.window.refuse(r, r.failure(ErrNotPublished, explain(refused, r)))
		return false, true
	}
	name, user := r.msg.Exchange, r.msg.Publishing.UserId
	if s.p.unchecked || s.known[name] && s.users[user] {
		return true, true
	}
	batch.End() // asking waits for an answer
	if !s.known[name] {
		// RabbitMQ compares only the name in a passive declare.
		err := s.request(func(ch *amqp.Channel) error {
			return ch.ExchangeDeclarePassive(name, amqp.ExchangeDirect, true, false, false, false, nil)
		})
		reason := brokerError(err)
		made := reason != nil && reason.Code == amqp.InternalError && isUnreportable(name)
		if made {
			reason = &amqp.Error{Code: amqp.NotFound, Reason: "NOT_FOUND - no exchange '" + name + "' in vhost '" + s.ac.Config.Vhost + "'", Server: true}
		}
		switch {
		case reason != nil && reason.Code == amqp.NotFound:
			s.refuse(r, reason, made)
			return false, !s.ac.IsClosed()
		case s.ac.IsClosed() || s.p.ctx.Err() != nil:
			s.disableChecks(reason)
			return false, false
		}
		s.p.refusals.exists(r)
		s.known[name] = true // also where this user may not ask (403): publishing may be allowed
	}
	if !s.users[user] {
		err := s.request(func(ch *amqp.Channel) error { return tryUser(ch, user) })
		switch reason := brokerError(err); {
		case reason != nil && reason.Code == amqp.PreconditionFailed:
			s.refuse(r, reason, false)
			return false, true
		case s.ac.IsClosed() || s.p.ctx.Err() != nil:
			s.disableChecks(reason)
			return false, false
		}
		s.users[user] = true
	}
	return true, true
}

// refuse gives r, which was not sent, the outcome of a refusal.
func (s *session) refuse(r *Receipt, reason *amqp.Error, made bool) {
	s.p.refusals.add(reason, r, made, time.Now())
	s.p.window.finish(r, r.failure(ErrNotPublished, explain(reason, r)))
}

// isUnreportable reports whether RabbitMQ closes the connection with an internal error (541) when it
// has to name the exchange in an error: it limits the characters of the text, but the text must fit 255 bytes.
func isUnreportable(exchange string) bool {
	return utf8.RuneCountInString(exchange) < len(exchange) && len(exchange) > 100
}

// disableChecks makes the Producer ask no more, where the user may have no second channel: RabbitMQ closes the
// connection over it (530), and would again. Then a refused message closes the channel.
func (s *session) disableChecks(reason *amqp.Error) {
	if reason != nil && reason.Code == amqp.NotAllowed {
		s.p.unchecked = true
		s.p.cfg.Logger.LogAttrs(s.p.ctx, slog.LevelWarn,
			"producer: exchanges are not checked before publishing, because that takes a second channel; raise the user's max-channels", s.p.about(s.ac, reason)...)
	}
}

func brokerError(err error) *amqp.Error {
	var e *amqp.Error
	if errors.As(err, &e) && e.Server {
		return e
	}
	return nil
}

// oversize reports headers that do not fit a frame of the connection, and names the header that
// is too large by itself or the last one that was counted.
func oversize(r *Receipt, frame int) error {
	over := int(r.header) - (frame - validate.FrameOverhead)
	headers, _ := validate.Received(r.msg.Publishing.Headers, maxReceived)
	field := ""
	if _, p := validate.Received(r.msg.Publishing.Headers, headers-over); p != nil {
		field = p.Field
	}
	return &validate.FrameError{Over: over, FieldError: &amqperr.FieldError{
		Package: "producer", Field: "Headers" + field,
		Problem: fmt.Sprintf("the properties take %d bytes, %d more than a frame of this connection", r.header, over),
		Fix:     "raise RabbitMQ's frame_max, or put the data into the body",
	}}
}

// request runs f on a separate channel, which the broker may close.
func (s *session) request(f func(*amqp.Channel) error) error {
	ctx, cancel := s.p.requestContext(s.ac, callTimeout)
	defer cancel()
	return wire.Do(ctx, s.ac, func() error {
		ch, err := s.ac.Channel()
		if err == nil {
			err = f(ch)
		}
		if err == nil {
			err = ch.Close()
		}
		return err
	})
}

// tryUser makes RabbitMQ check a user id by a message that no queue gets: only the broker knows the name, which may
// come from a token or a certificate, and the user's tags. The qos is answered after it.
func tryUser(ch *amqp.Channel, user string) error {
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	err := ch.PublishWithContext(context.Background(), "", "amqpkit."+rand.Text(), false, false, amqp.Publishing{UserId: user})
	if err == nil {
		err = ch.Qos(1, 0, false)
	}
	if wire.IsClosed(err) { // the broker refused the message before the qos was sent
		if reason := <-closed; reason != nil {
			return reason
		}
	}
	return err
}
