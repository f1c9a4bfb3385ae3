package producer

import (
	"cmp"
	"context"
	"runtime"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// A session is one channel in confirm mode, from its opening to the last outcome on it. Two
// goroutines share it. The sender (Producer.run) passes messages to amqp091-go and may block there. The resolver gives
// them their outcomes. Delivery tags start at 1 in each session, so nothing of a session is used in the next one.
type session struct {
	p    *Producer
	ac   *amqp.Connection
	ch   *amqp.Channel
	gate *wire.Gate

	closed   chan *amqp.Error // receives the reason when the channel closes
	returns  chan amqp.Return // as large as the window: amqp091-go drops returns if it is full
	sent     chan *Receipt    // from the sender to the resolver, as large as the window
	confirms *wire.Confirms
	resolved chan struct{}   // closed when the resolver returns
	expired  chan struct{}   // closed by the resolver when a confirm is overdue
	known    map[string]bool // exchanges that exist, or that the user may not check
	users    map[string]bool // user ids that the broker accepts from this login
	unsent   *Receipt        // claimed by the sender after the channel was closed

	// Owned by the resolver until it returns.
	overdue  time.Time     // when expired was closed
	acked    []*Receipt    // confirmed, but without their outcome in the window
	lost     []*Receipt    // of unknown outcome
	returned []amqp.Return // not matched yet
	worked   bool          // a message was confirmed
}

// serve opens a channel on ac and sends until the channel, the connection or the Producer
// is closed. An error means that the channel could not be opened.
func (p *Producer) serve(ac *amqp.Connection) error {
	gate := wire.GateOf(ac)
	failed := p.opening.err
	if p.cfg.FailFast {
		failed = nil // this attempt decides
	}
	p.window.setObstacle(func() error { return cmp.Or(gate.Err(), failed) })
	defer p.window.setObstacle(nil)
	if !p.awaitUnblocked(ac, gate) {
		return nil
	}
	ch, err := p.open(ac)
	if err != nil {
		return err
	}
	p.opening = opening{}
	p.warnings.Reset(warnOpen)
	if ac != p.last {
		p.refusals.reconnected()
		p.last = ac
	}
	p.window.setObstacle(gate.Err)
	s := &session{
		p: p, ac: ac, ch: ch, gate: gate,
		closed:   ch.NotifyClose(make(chan *amqp.Error, 1)),
		returns:  ch.NotifyReturn(make(chan amqp.Return, p.cfg.MaxInFlight)),
		sent:     make(chan *Receipt, p.cfg.MaxInFlight),
		confirms: wire.ConfirmsOn(ac),
		resolved: make(chan struct{}),
		expired:  make(chan struct{}),
		known:    map[string]bool{"": true},
		users:    map[string]bool{"": true},
	}
	over := make(chan struct{})
	defer close(over)
	defer context.AfterFunc(p.cutCtx, func() { killUnless(over, ac) })()

	go s.resolve()
	reason := s.send()
	close(s.sent)
	s.close()
	if reason == nil {
		reason = <-s.closed
	}
	<-s.resolved
	s.settleLost(reason)
	return nil
}

// close closes the channel if the Producer is closed or a confirm is overdue.
func (s *session) close() {
	switch {
	case s.p.ctx.Err() != nil:
		_ = s.ch.Close() // Producer.Close bounds it
	case s.hasExpired():
		ctx, cancel := s.p.requestContext(s.ac, closeTimeout)
		defer cancel()
		_ = wire.Do(ctx, s.ac, s.ch.Close)
	}
}

func (s *session) hasExpired() bool {
	select {
	case <-s.expired:
		return true
	default:
		return false
	}
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
	ctx, cancel := p.requestContext(ac, callTimeout)
	defer cancel()
	return wire.Call(ctx, ac, func() (*amqp.Channel, error) {
		ch, err := ac.Channel()
		if err != nil {
			return nil, err
		}
		return ch, ch.Confirm(false)
	})
}

// send hands over one message after the other. It returns the reason when it saw the channel
// close, else nil.
func (s *session) send() *amqp.Error {
	w := s.p.window
	batch := wire.BatchOn(s.ac)
	yielded := false
	defer batch.End()
	for s.p.ctx.Err() == nil && !s.hasExpired() {
		changed, blocked := s.gate.Watch()
		r := w.head()
		if r == nil && !yielded {
			yielded = true
			runtime.Gosched()
			continue
		}
		yielded = false
		if r == nil || blocked != nil {
			batch.End()
			wake := w.wake
			if blocked != nil {
				wake = nil
				w.checkObstacle()
			}
			select {
			case <-wake:
			case <-changed:
			case reason := <-s.closed:
				return reason
			case <-s.expired:
			case <-s.p.ctx.Done():
			}
			continue
		}
		if r.probe {
			w.finish(r, nil)
			continue
		}
		exists, ok := s.check(r, batch)
		if !ok {
			break
		}
		if !exists || !w.claim(r) {
			batch.End() // messages that are not sent must not hold back the sent ones
			continue
		}
		m := &r.msg
		r.sentAt = time.Now()
		batch.Begin()
		confirm, err := s.ch.PublishWithDeferredConfirm(m.Exchange, m.Key, r.received || !s.p.cfg.AllowUnroutable, false, m.Publishing)
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
