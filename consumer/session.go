package consumer

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// callTimeout bounds a call to the broker after which nobody waits: after Run's ctx has ended,
// and for closing a channel. Beyond it the connection is closed, with all that use it: the
// only way left to return the deliveries.
const callTimeout = 5 * time.Second

// A session is one subscription: a channel, its consumer and what it delivered. Run's
// goroutine owns it and alone touches the channel. No delivery or result of one session
// reaches another: a new subscription is a new session.
type session struct {
	run   *run
	ac    *amqp.Connection
	ch    *amqp.Channel
	queue string
	tag   string
	log   *slog.Logger

	deliveries <-chan amqp.Delivery
	cancelled  <-chan string      // basic.cancel from the broker
	closed     <-chan *amqp.Error // the channel is gone

	backlog []*Delivery   // delivered, handler not begun; at most Prefetch
	running int           // handed to workers, result not received
	results chan result   // from the workers
	gone    chan struct{} // closed when results are no longer received

	held  waiting
	timer *time.Timer // fires when the next held delivery is due

	draining    bool
	settledAt   time.Time // when the last settlement was sent
	settlements int       // how many were
}

// subscribe makes a session. Its calls are not cut when ctx ends: a healthy broker answers
// soon, and cutting one means to close a connection that others share.
func (r *run) subscribe(ctx context.Context, ac *amqp.Connection) (*session, error) {
	queue := r.cfg.Queue
	if r.cfg.Declare != nil {
		name, err := r.declare(ac)
		if err != nil {
			return nil, &SubscribeError{Queue: queue, Err: err}
		}
		if name != "" {
			queue = name
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ch, err := wire.Channel(r.calls, ac)
	if err != nil {
		return nil, &SubscribeError{Queue: queue, Err: err}
	}
	s := &session{
		run:   r,
		ac:    ac,
		ch:    ch,
		queue: queue,
		tag:   r.cfg.newTag(queue),
		log:   r.cfg.Logger.With("queue", queue),
		// Buffered, because amqp091-go's reader waits up to five seconds for a full listener
		// and then drops the event.
		closed:    ch.NotifyClose(make(chan *amqp.Error, 1)),
		cancelled: ch.NotifyCancel(make(chan string, 1)),
		results:   make(chan result),
		gone:      make(chan struct{}),
	}
	s.deliveries, err = wire.Call(r.calls, ac, func() (<-chan amqp.Delivery, error) {
		if err := ch.Qos(r.cfg.Prefetch, 0, false); err != nil {
			return nil, err
		}
		return ch.Consume(queue, s.tag, false, r.cfg.Exclusive, false, false, r.cfg.Arguments)
	})
	if err != nil {
		s.end()
		return nil, &SubscribeError{Queue: queue, Err: err}
	}
	return s, nil
}

// declare runs Config.Declare and checks the name that it returns: a bad one would cost the
// connection, and all that use it.
func (r *run) declare(ac *amqp.Connection) (name string, err error) {
	// A Declare that calls amqp091-go directly does not see its ctx: its calls end with the link.
	defer context.AfterFunc(r.calls, func() { wire.Kill(ac) })()
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	if name, err = r.cfg.Declare(r.calls, ac); err != nil {
		return "", err
	}
	wrong := func(problem, fix string) error {
		return &FieldError{Package: "consumer", Field: "Declare", Problem: problem, Fix: fix}
	}
	if name == "" && r.cfg.Queue == "" {
		return "", wrong("returned no queue name, and Queue is empty", "return the name the server gave")
	}
	if p := wire.Name(name); p != nil {
		return "", wrong("returned a queue name that cannot be: "+p.Problem, p.Fix)
	}
	return name, nil
}

// newTag returns a consumer tag: a readable beginning and a random end.
func (c Config) newTag(queue string) string {
	tag := c.Tag
	if tag == "" {
		tag = strings.ToValidUTF8(queue[:min(len(queue), maxTag)], "")
	}
	return tag + "-" + rand.Text()[:tagSuffix]
}

// consume runs the session until it is lost or, ctx having ended, drained. Its error is a
// *LostError, or nil after a drain.
func (s *session) consume(ctx context.Context) error {
	defer s.end()
	s.timer = time.NewTimer(0)
	defer s.timer.Stop()
	for {
		if ctx.Err() != nil { // before a select that might as well begin another handler
			s.drain()
			return nil
		}
		var jobs chan<- job
		var next job
		if len(s.backlog) > 0 {
			jobs, next = s.run.jobs, job{s, s.backlog[0], s.backlog[0].DeliveryTag}
		}
		select {
		case d, ok := <-s.deliveries:
			if !ok {
				s.deliveries = nil // one of the next two tells why
				continue
			}
			s.backlog = append(s.backlog, s.delivery(d))
		case _, ok := <-s.cancelled:
			if ok {
				return &LostError{Queue: s.queue}
			}
			s.cancelled = nil // closed along with the channel
		case err := <-s.closed:
			return s.lost(err)
		case jobs <- next:
			s.backlog[0] = nil
			s.backlog = s.backlog[1:]
			s.running++
		case res := <-s.results:
			s.finish(res)
		case now := <-s.timer.C:
			s.release(now)
		case <-ctx.Done():
		}
	}
}

// lost tells that the channel is gone; err is nil if this side closed the connection.
func (s *session) lost(err *amqp.Error) error {
	if err == nil {
		err = amqp.ErrClosed
	}
	return &LostError{Queue: s.queue, Err: err}
}

// end closes the channel and lets go of the handlers that still run. Their results have
// nowhere to go: what they did not settle, the broker delivers again.
func (s *session) end() {
	close(s.gone)
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := wire.Do(ctx, s.ac, s.ch.Close); err != nil {
		s.log.Debug("consumer: channel not closed cleanly", "err", err)
	}
}

func (s *session) delivery(d amqp.Delivery) *Delivery {
	d.Acknowledger = byResult{}
	return &Delivery{Delivery: d, Queue: s.queue}
}

// finish acts on a handler's result.
func (s *session) finish(res result) {
	s.running--
	d, how, after := res.d, res.how, res.after
	switch how {
	case ack:
		s.run.failures.settled(d)
	case reject:
		s.run.failures.settled(d)
		s.log.Warn("consumer: message rejected", "message_id", d.MessageId, "err", res.err)
		s.warnOfLoss("a rejected message")
	case fail:
		if s.run.handlers.Err() != nil && res.interrupted {
			how = postpone // the drain's failure, not the message's
			break
		}
		s.warnOfLoss("a message that failed as often as a quorum queue's delivery limit says, 20 by default,")
		n := s.run.failures.of(d)
		s.run.failures.failed(d, n+1)
		after = s.run.hold(n)
		s.logFailure(d, n+1, after, res.err)
	}
	if after <= 0 || s.draining {
		s.settle(res.tag, how)
		return
	}
	s.held.add(held{time.Now().Add(after), res.tag, how})
	s.arm()
	if due, _ := s.held.next(); len(s.held.heap) == s.run.cfg.Prefetch {
		s.log.Warn("consumer: held messages fill Config.Prefetch, nothing else is delivered for now; raise it, or Reject what cannot succeed",
			"held", len(s.held.heap), "until", due)
	}
}

// warnOfLoss says, once a Run, what may become of a message.
func (s *session) warnOfLoss(what string) {
	if s.run.cfg.DeadLettered || s.run.warned {
		return
	}
	s.run.warned = true
	s.log.Warn("consumer: RabbitMQ drops " + what + " if the queue has no dead-letter exchange; " +
		"give it one (x-dead-letter-exchange, or a policy) and set Config.DeadLettered")
}

func (s *session) logFailure(d *Delivery, failures int, held time.Duration, err error) {
	log := s.log.With("message_id", d.MessageId, "failures", failures, "held", held, "err", err)
	var p *PanicError
	if errors.As(err, &p) {
		log.Error("consumer: handler panicked", "stack", string(p.Stack))
		return
	}
	log.Warn("consumer: handler failed")
}

// release settles the held deliveries that are due.
func (s *session) release(now time.Time) {
	for {
		h, ok := s.held.take(now)
		if !ok {
			break
		}
		s.settle(h.tag, h.how)
	}
	s.arm()
}

func (s *session) arm() {
	if due, ok := s.held.next(); ok {
		s.timer.Reset(time.Until(due))
	}
}

// settle sends the one settlement of a delivery. An error means that the channel is gone or
// going, which closed reports.
func (s *session) settle(tag uint64, how settlement) {
	var err error
	switch how {
	case ack:
		err = s.ch.Ack(tag, false)
	case reject:
		err = s.ch.Reject(tag, false)
	case postpone:
		err = s.ch.Nack(tag, false, true)
	case fail:
		err = s.ch.Reject(tag, true)
	}
	s.settledAt = time.Now()
	s.settlements++
	if err != nil {
		s.log.Debug("consumer: delivery not settled", "err", err)
	}
}
