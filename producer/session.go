package producer

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// A session is one channel in confirm mode, from its opening to the last outcome on it. Two
// goroutines share it: the sender (Producer.run) hands messages to amqp091-go and may block
// there; the resolver gives them their outcomes. Nothing of a session outlives it, so no
// confirm can be taken for one of another session, where delivery tags start at 1 again.
type session struct {
	p  *Producer
	ac *amqp.Connection
	ch *amqp.Channel

	closed    chan *amqp.Error // the reason, when the channel has closed
	returns   chan amqp.Return // as large as the window: amqp091-go drops what does not fit
	sent      chan *Receipt    // from the sender to the resolver, as large as the window
	resolved  chan struct{}    // closed when the resolver has returned
	known     map[string]bool  // exchanges that exist, or may not be asked for
	unsent    *Receipt         // claimed by the sender, but the channel was closed already
	lost      []*Receipt       // of unknown outcome, in order; the resolver's until resolved
	returned  []amqp.Return    // not matched yet; the resolver's
	announced chan *Receipt    // messages with a caller's own id, before they are handed over
	ambiguous []*Receipt       // those taken from it; the resolver's
}

// serve opens a channel on ac and sends until the channel, the connection or the Producer
// ends. The error is of opening the channel.
func (p *Producer) serve(ac *amqp.Connection) error {
	ch, err := p.open(ac)
	if err != nil {
		return err
	}
	s := &session{
		p: p, ac: ac, ch: ch,
		closed:    ch.NotifyClose(make(chan *amqp.Error, 1)),
		returns:   ch.NotifyReturn(make(chan amqp.Return, p.cfg.MaxInFlight)),
		sent:      make(chan *Receipt, p.cfg.MaxInFlight),
		announced: make(chan *Receipt, p.cfg.MaxInFlight),
		resolved:  make(chan struct{}),
		known:     map[string]bool{"": true},
	}
	over := make(chan struct{})
	defer close(over)
	defer context.AfterFunc(p.cutCtx, func() { killUnless(over, ac) })()

	go s.resolve()
	reason := s.send()
	close(s.sent)
	if p.ctx.Err() != nil {
		_ = ch.Close() // what the broker has not confirmed by now stays unconfirmed
	}
	if reason == nil {
		reason = <-s.closed
	}
	<-s.resolved
	s.dispose(reason)
	return nil
}

// killUnless kills the link if the session is not over soon: its sender or its close is stuck.
func killUnless(over <-chan struct{}, ac *amqp.Connection) {
	t := time.NewTimer(wire.Grace)
	defer t.Stop()
	select {
	case <-over:
	case <-t.C:
		wire.Kill(ac)
	}
}

func (p *Producer) open(ac *amqp.Connection) (*amqp.Channel, error) {
	ch, err := wire.Channel(p.ctx, ac)
	if err != nil {
		return nil, err
	}
	if err := wire.Do(p.ctx, ac, func() error { return ch.Confirm(false) }); err != nil {
		return nil, err
	}
	return ch, nil
}

// send hands over one message after the other. It returns the reason when it saw the channel
// close, else nil.
func (s *session) send() *amqp.Error {
	w := s.p.window
	for s.p.ctx.Err() == nil {
		r := w.head()
		if r == nil {
			select {
			case <-w.wake:
			case reason := <-s.closed:
				return reason
			case <-s.p.ctx.Done():
			}
			continue
		}
		exists, ok := s.check(r)
		if !ok {
			break
		}
		if !exists || !w.claim(r) {
			continue
		}
		m := &r.msg
		r.settled = false
		if !r.own {
			s.announced <- r
		}
		confirm, err := s.ch.PublishWithDeferredConfirm(m.Exchange, m.Key, !s.p.cfg.AllowUnroutable, false, m.Publishing)
		if wire.IsClosed(err) { // no whole message was written
			s.unsent = r
			break
		}
		if err != nil {
			if invalid := m.Publishing.Headers.Validate(); invalid != nil { // changed since they were checked
				w.finish(r, r.failure(ErrNotPublished, fault("Headers", invalid.Error(), "do not change them until the outcome is known")))
				continue
			}
		}
		r.confirm, r.sendErr = confirm, err
		s.sent <- r
		if r.sendErr != nil { // the socket is broken; amqp091-go is about to notice
			wire.Kill(s.ac)
			break
		}
	}
	return nil
}

// propertiesSize is what the other properties take of a frame at most.
const propertiesSize = 4096

// check makes sure that r's exchange exists, since publishing to a missing one costs the
// channel and with it the outcome of everything in flight. It gives r its outcome if not.
// ok is false when the connection is gone.
//
// It also refuses headers that are too large for this connection's frames.
func (s *session) check(r *Receipt) (exists, ok bool) {
	if size := s.ac.Config.FrameSize; size > 0 && size < wire.MaxHeaders+propertiesSize {
		if p := wire.TableWithin(r.msg.Publishing.Headers, size-propertiesSize); p != nil {
			s.p.window.finish(r, r.failure(ErrNotPublished, fault("Headers"+p.Field, p.Problem, "raise RabbitMQ's frame_max, or "+p.Fix)))
			return false, true
		}
	}
	name := r.msg.Exchange
	if s.known[name] {
		return true, true
	}
	ch, err := wire.Channel(s.p.ctx, s.ac)
	if err == nil {
		// Of a passive declare RabbitMQ looks only at the name.
		err = wire.Do(s.p.ctx, s.ac, func() error {
			return ch.ExchangeDeclarePassive(name, amqp.ExchangeDirect, true, false, false, false, nil)
		})
	}
	if err == nil {
		err = wire.Do(s.p.ctx, s.ac, ch.Close)
	}
	switch {
	case wire.Code(err) == amqp.NotFound:
		s.p.window.finish(r, r.failure(ErrNotPublished, err))
		return false, true
	case s.ac.IsClosed() || s.p.ctx.Err() != nil:
		return false, false
	}
	s.known[name] = true // also where this user may not ask (403): publishing may be allowed
	return true, true
}

// sweepEvery bounds how long a confirm may go unnoticed behind an older message that is still
// unconfirmed: the resolver waits for the oldest, and looks at all this often.
const sweepEvery = 5 * time.Millisecond

// resolve gives every sent message its outcome, and ends when the sender has ended and every
// confirmation is in. amqp091-go fails the missing ones when the channel closes.
func (s *session) resolve() {
	defer close(s.resolved)
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	sent := s.sent
	var flight []*Receipt // in the order of sending
	for sent != nil || len(flight) > 0 {
		var oldest <-chan struct{}
		var tick <-chan time.Time
		if len(flight) > 0 {
			oldest, tick = flight[0].confirmed(), sweep.C
		}
		select {
		case r, ok := <-sent:
			if !ok {
				sent = nil
				continue
			}
			flight = append(flight, r)
		case r := <-s.announced:
			s.hear(r)
		case <-oldest:
			s.settle(flight[0])
			flight[0] = nil
			flight = flight[1:]
		case <-tick:
			for _, r := range flight {
				select {
				case <-r.confirmed():
					s.settle(r)
				default:
				}
			}
			flight = slices.DeleteFunc(flight, func(r *Receipt) bool { return r.settled })
		}
	}
}

// tag is the message's place in the session.
func (r *Receipt) tag() uint64 {
	if r.confirm == nil { // its sending failed and was the last
		return math.MaxUint64
	}
	return r.confirm.DeliveryTag
}

var closedChan = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// confirmed is closed when the broker has answered, or cannot any more.
func (r *Receipt) confirmed() <-chan struct{} {
	if r.confirm == nil {
		return closedChan
	}
	return r.confirm.Done()
}

// settle gives r, whose confirmation is in, its outcome, or notes it as lost.
//
// A false confirmation means a nack only while the channel is open: amqp091-go marks the
// channel closed before it fails what is outstanding. A return comes before its ack, and
// was put into s.returns before the confirmation was resolved; it counts also when the ack
// is missing, since the broker had decided.
func (s *session) settle(r *Receipt) {
	w := s.p.window
	r.settled = true
	ret, doubt := s.returnOf(r)
	switch {
	case ret != nil:
		w.finish(r, r.failure(ret, nil))
	case doubt:
		w.finish(r, r.failure(ErrUnconfirmed, errors.New("of several messages with this id, exchange and key one was returned")))
	case r.confirm == nil:
		s.lost = append(s.lost, r)
	case r.confirm.Acked():
		w.finish(r, nil)
	case !s.ch.IsClosed():
		w.finish(r, r.failure(ErrNacked, nil))
	default:
		s.lost = append(s.lost, r)
	}
}

// returnOf finds the basic.return of r, or nil. There is doubt if one came back that may be
// r's or that of another message in flight, and agrees with neither.
func (s *session) returnOf(r *Receipt) (returned *ReturnedError, doubt bool) {
	for {
		select {
		case ret, ok := <-s.returns:
			if ok {
				s.returned = append(s.returned, ret)
				continue
			}
		default:
		}
		break
	}
	if n := len(s.returned) - cap(s.returns); n > 0 {
		s.returned = s.returned[n:] // older than anything in flight
	}
	for i, ret := range s.returned {
		if !mayBeReturnOf(&ret, r) {
			continue
		}
		if !r.own && !isReturnOf(&ret, r) {
			others := s.others(&ret)
			if slices.ContainsFunc(others, func(o *Receipt) bool { return isReturnOf(&ret, o) }) {
				continue // that one's
			}
			if len(others) > 0 {
				doubt = true
				continue
			}
		}
		s.returned = slices.Delete(s.returned, i, i+1)
		return &ReturnedError{Code: int(ret.ReplyCode), Text: ret.ReplyText, Exchange: ret.Exchange, Key: ret.RoutingKey}, false
	}
	return nil, doubt
}

// others returns the unsettled messages that ret may be of, when r is settled already. A
// message is announced before it is handed over, and its return comes after: it is among them.
func (s *session) others(ret *amqp.Return) []*Receipt {
	for len(s.announced) > 0 {
		s.hear(<-s.announced)
	}
	return slices.DeleteFunc(slices.Clone(s.ambiguous), func(o *Receipt) bool { return o.settled || !mayBeReturnOf(ret, o) })
}

// hear takes in what was announced, and forgets now and then what is settled.
func (s *session) hear(r *Receipt) {
	if len(s.ambiguous) > 2*cap(s.announced) {
		s.ambiguous = slices.DeleteFunc(s.ambiguous, func(r *Receipt) bool { return r.settled })
	}
	s.ambiguous = append(s.ambiguous, r)
}

// dispose decides about what the closed channel left without an outcome.
func (s *session) dispose(reason *amqp.Error) {
	w := s.p.window
	var cause error = amqp.ErrClosed
	if reason != nil {
		cause = reason
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
		if s.p.ctx.Err() == nil && (s.p.cfg.Resend == Never || blamed(r)) {
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
	case amqp.InternalError:
		return func(r *Receipt) bool { r.strikes++; return r.strikes >= maxStrikes }
	case amqp.ConnectionForced, amqp.ResourceError:
		return none
	}
	return all
}
