package consumer

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// callTimeout bounds a call to the broker after which nobody waits: after Run's ctx has ended,
// and for closing a channel. Beyond it the connection is closed, with all that use it: the
// only way left to return the deliveries.
const callTimeout = 5 * time.Second

// overdueAfter is how long a delivery may be unsettled before somebody is told: half of
// RabbitMQ's default consumer timeout, which classic queues and streams do not even have.
const overdueAfter = 15 * time.Minute

// An order is a settlement to be sent.
type order struct {
	tag uint64
	how settlement
}

// A session is one subscription: a channel, its consumer and what it delivered. Run's
// goroutine owns it and alone touches the channel. No delivery or result of one session
// reaches another: a new subscription is a new session.
type session struct {
	run   *run
	ac    *amqp.Connection
	ch    *amqp.Channel
	gone  func() bool // ch.IsClosed, made once
	queue string
	tag   string
	log   *slog.Logger

	deliveries <-chan amqp.Delivery
	cancelled  <-chan string      // basic.cancel from the broker
	closed     <-chan *amqp.Error // the channel is gone

	inbox inbox       // results from the workers
	out   int         // deliveries on the desk or with a handler, result not received
	batch *wire.Batch // of settlements
	acks  []uint64    // to be sent by flush
	other []order     // likewise: rejections and returns

	held   waiting
	timer  *time.Timer // fires when the next held delivery is due
	ledger ledger
	proof  proof

	began   time.Time
	narrow  bool     // the prefetch is one because of a suspicion
	own     bool     // the connection is for this session alone
	next    *session // its successor, see trust
	leaving bool     // for the successor

	// Of a stream, see subscribedStream.
	first       <-chan amqp.Delivery
	firstCh     *amqp.Channel
	awaitsFirst bool // the first message was requested and has not arrived
	redeclared  bool

	draining bool
	withhold bool // flush sends nothing: the settlements wait for the end of an ordered drain
	progress bool // something was settled

	// Set before the inbox is shut.
	why  error // how the session was lost; nil if it was not
	left int   // deliveries to come again although they were finished, or to be given back in the drain

	stale atomic.Int64 // the same, finished by handlers after the loss
}

// consume runs the session until it is lost or, ctx having ended, drained. Its error is a
// *LostError, or nil after a drain.
func (s *session) consume(ctx context.Context) (err error) {
	defer func() { s.end(err) }()
	// A settlement is no call that wire could bound, and may be stuck in a socket that nobody reads.
	defer context.AfterFunc(s.run.calls, func() { wire.Kill(s.ac) })()
	s.timer = time.NewTimer(0)
	defer s.timer.Stop()
	s.proof.timer = time.NewTimer(proofEvery)
	s.proof.timer.Stop()
	watch := time.NewTimer(overdueAfter)
	defer watch.Stop()
	var calm <-chan time.Time
	if s.narrow {
		t := time.NewTicker(provenAfter / 4)
		defer t.Stop()
		calm = t.C
	}
	for {
		if ctx.Err() != nil { // before a select that might as well begin another handler
			return s.drain()
		}
		select {
		case d, ok := <-s.deliveries:
			if !ok {
				s.deliveries = nil // one of the next two tells why
				continue
			}
			s.arrive(d)
		case _, ok := <-s.cancelled:
			if ok {
				return s.lost(nil)
			}
			s.cancelled = nil // closed along with the channel
		case err := <-s.closed:
			return s.lost(closeReason(err))
		case d, ok := <-s.first:
			if !ok {
				s.first = nil
			} else if err := s.identify(&d); err != nil {
				return s.lost(err)
			}
		case <-s.inbox.arrived:
			s.finishAll()
		case now := <-s.timer.C:
			s.release(now)
		case <-s.proof.timer.C:
			s.prove()
		case now := <-watch.C:
			if again := s.warnOverdue(now); again > 0 {
				watch.Reset(again)
			}
		case now := <-calm:
			if s.proven(now) {
				if moved, err := s.trust(ctx); moved {
					return err
				}
			}
		case <-ctx.Done():
		}
	}
}

// subscribedAgain says that what Err told is over.
func (s *session) subscribedAgain() {
	s.run.complained = ""
	s.run.status.set(subscribed, nil)
	s.log.Info("consumer: subscribed again", "tag", s.tag)
}

// enter enters a delivery into the ledger. A delivery tag that cannot be costs the connection: what the
// broker means by it nobody can tell.
func (s *session) enter(d *amqp.Delivery) bool {
	a := arrival{at: time.Now(), messageID: d.MessageId}
	if s.run.cfg.streams() {
		a.offset = s.offset(d)
	}
	if s.ledger.delivered(d.DeliveryTag, a) {
		return true
	}
	s.log.Error("consumer: the broker sent a delivery tag that cannot be, the connection is cut", "tag", d.DeliveryTag)
	wire.Kill(s.ac)
	return false
}

// arrive takes in a delivery.
func (s *session) arrive(d amqp.Delivery) {
	if !s.enter(&d) {
		return
	}
	if reason, ok := wire.Unreadable(d.Headers); ok {
		s.refuse(&d, reason)
		return
	}
	if most := s.run.cfg.MaxBodySize; most > 0 && len(d.Body) > most {
		s.log.Warn("consumer: message rejected, it is larger than Config.MaxBodySize", "message_id", d.MessageId, "bytes", len(d.Body))
		s.warnOfLoss("a rejected message")
		dl := s.delivery(d)
		s.settleAfter(s.pace(dl, 0, s.rejectedHere(dl), nil), d.DeliveryTag, reject)
		s.flush()
		return
	}
	s.out++
	j := job{s: s, d: s.delivery(d), tag: d.DeliveryTag}
	if err := s.run.sort(&j); err != nil {
		s.finish(result{j, verdict{how: fail, err: err}})
		return
	}
	s.run.desk.put(j)
}

// refuse rejects a message that cannot be read, without the handler. A stream only goes past it.
func (s *session) refuse(d *amqp.Delivery, reason string) {
	err := &UnreadableError{Queue: s.queue, MessageID: d.MessageId, Reason: reason}
	after := time.Duration(0)
	if offset, ok := d.Headers[streamOffset]; ok {
		s.log.Error("consumer: unreadable message skipped in the stream", "message_id", d.MessageId, "offset", offset, "error", err)
	} else {
		s.log.Error("consumer: unreadable message rejected", "message_id", d.MessageId, "error", err)
		s.warnOfLoss("a rejected message")
		after = s.pace(s.delivery(*d), 0, true, err) // x-death is among what cannot be read
	}
	s.settleAfter(after, d.DeliveryTag, reject)
	s.flush()
}

func (s *session) delivery(d amqp.Delivery) *Delivery {
	d.Acknowledger = byResult{}
	return &Delivery{Delivery: d, Queue: s.queue, gone: s.gone}
}

// lost says how the session came to its end, nil standing for a basic.cancel.
func (s *session) lost(err error) error {
	lost := &LostError{Queue: s.queue, Err: err}
	if first, ok := s.ledger.oldest(); ok {
		lost.Oldest = time.Since(first.at)
	}
	return lost
}

// closeReason is why the channel is gone; amqp091-go gives none if this side closed the connection.
func closeReason(err *amqp.Error) error {
	if err == nil {
		return amqp.ErrClosed
	}
	return err
}

// end closes the channel and lets go of the handlers that still run. Their results have
// nowhere to go: what they did not settle, the broker delivers again. why tells how the session
// was lost, if it was.
func (s *session) end(why error) {
	s.withdraw()
	if why != nil {
		s.why = why
		s.left = s.ledger.inDoubt()
		if s.draining {
			s.left += s.ledger.open - s.out
		}
	}
	s.remember()
	s.closeFirst()
	for _, res := range s.run.desk.shut(&s.inbox) {
		s.run.tooLate(res)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := wire.Do(ctx, s.ac, s.ch.Close); err != nil {
		s.log.Debug("consumer: channel not closed cleanly", "err", err)
	}
	if s.own {
		_ = wire.Close(ctx, s.ac) // or it is cut
	}
}

// withdraw takes back what no handler has begun.
func (s *session) withdraw() []job {
	jobs := s.run.desk.withdraw()
	s.out -= len(jobs)
	return jobs
}

// finishAll acts on the results there are, and returns how many there were.
func (s *session) finishAll() int {
	results := s.run.desk.collect(&s.inbox)
	for _, res := range results {
		s.finish(res)
	}
	s.flush()
	return len(results)
}

// finish acts on a handler's result.
func (s *session) finish(res result) {
	s.out--
	d, how, after := res.d, res.how, res.after
	switch how {
	case ack:
		s.run.failures.settled(d)
	case reject:
		s.run.failures.settled(d)
		s.log.Warn("consumer: message rejected", "message_id", d.MessageId, "err", res.err)
		s.warnOfLoss("a rejected message")
		after = s.pace(d, 0, s.rejectedHere(d), res.err)
	case postpone:
		if res.reason != nil {
			s.log.Info("consumer: message requeued", "message_id", d.MessageId, "held", after, "error", res.reason)
		}
		s.warnOfLastDelivery(d, how)
		after = s.pace(d, after, d.Redelivered, res.err)
	case failNow:
		s.warnOfLastDelivery(d, how)
		n := s.run.before(d)
		s.run.failures.failed(d, n+1)
		// A queue that delays failed messages counts them. One that counts and does not delay ends it at its delivery limit,
		// 20 by default.
		count, counted := deliveryCount(d.Headers)
		after = s.pace(d, 0, d.Redelivered && (!counted || count > 20), res.err)
		s.logFailure(d, n+1, after, res.err)
	case fail:
		if s.run.handlers.Err() != nil && res.interrupted {
			how = postpone // the drain's failure, not the message's
			break
		}
		s.warnOfLoss("a message from a quorum queue after as many failed deliveries as its delivery limit allows, 21 by default,")
		s.warnOfLastDelivery(d, how)
		n := s.run.before(d)
		s.run.failures.failed(d, n+1)
		after = s.run.hold(n)
		s.logFailure(d, n+1, after, res.err)
	}
	s.settleAfter(after, res.tag, how)
}

// settleAfter holds a delivery before it is settled.
func (s *session) settleAfter(after time.Duration, tag uint64, how settlement) {
	now := time.Now()
	if after <= 0 || s.draining || s.leaving {
		s.settle(tag, how)
		return
	}
	s.held.add(held{now.Add(after), tag, how})
	s.arm()
	if due, _ := s.held.next(); len(s.held.heap) == s.run.cfg.Prefetch && s.run.fullHolds.add(now) == 1 {
		s.log.Warn("consumer: held messages fill Config.Prefetch, nothing else is delivered for now; raise it, or Reject what cannot succeed",
			"held", len(s.held.heap), "until", due)
	}
}

// warnOfLoss says, once a Run, what may become of a message.
func (s *session) warnOfLoss(what string) {
	if s.run.cfg.HasDeadLetterExchange || s.run.warned {
		return
	}
	s.run.warned = true
	s.log.Warn("consumer: RabbitMQ drops " + what + " if the queue has no dead-letter exchange; " +
		"give it one (x-dead-letter-exchange, or a policy) and set Config.HasDeadLetterExchange")
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
	s.flush()
	s.arm()
}

func (s *session) arm() {
	if due, ok := s.held.next(); ok {
		s.timer.Reset(time.Until(due))
	}
}

// settle has flush send the one settlement of a delivery.
func (s *session) settle(tag uint64, how settlement) {
	if how == ack {
		s.ledger.finish(tag)
		s.acks = append(s.acks, tag)
		return
	}
	s.other = append(s.other, order{tag, how})
}

// flush sends the settlements that were asked for, in one write, and returns how many frames that took. Nothing else happens meanwhile: a batch
// holds back what others write on the connection, too. An error means that the channel is gone
// or going, which closed reports.
func (s *session) flush() (frames int) {
	if s.withhold || len(s.acks)+len(s.other) == 0 {
		return 0
	}
	frames = len(s.other)
	var err error
	now := time.Now()
	s.batch.Begin()
	for _, o := range s.other {
		err = errors.Join(err, s.send(o))
		s.ledger.settle(o.tag, now)
	}
	s.ledger.acks(s.acks, now, func(tag uint64, multiple bool) {
		frames++
		err = errors.Join(err, s.ch.Ack(tag, multiple))
	})
	s.batch.End()
	s.acks, s.other = s.acks[:0], s.other[:0]
	if err != nil {
		s.log.Debug("consumer: deliveries not settled", "err", err)
		return frames
	}
	s.progress = true
	s.doubt()
	return frames
}

func (s *session) send(o order) error {
	switch o.how {
	case postpone:
		return s.ch.Nack(o.tag, false, true)
	case fail, failNow:
		return s.ch.Reject(o.tag, true)
	case ack, reject:
	}
	return s.ch.Reject(o.tag, false)
}

// warnOverdue tells, once a session, of a delivery that is unsettled for long, and returns when to
// look again.
func (s *session) warnOverdue(now time.Time) time.Duration {
	first, ok := s.ledger.oldest()
	if !ok {
		return overdueAfter
	}
	age := now.Sub(first.at)
	if age < overdueAfter {
		return overdueAfter - age
	}
	s.log.Warn("consumer: a delivery is not settled for long; a quorum queue takes it back after the consumer timeout, 30 minutes by default, along with all others",
		"message_id", first.messageID, "unsettled", age.Round(time.Second))
	return 0
}
