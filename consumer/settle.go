package consumer

import (
	"errors"
	"log/slog"
	"time"

	"github.com/amqpkit/amqpkit/internal/logs"
)

// minHold is the minimum time for which a redelivered message is held before it is requeued, once freeBurst messages
// were requeued sooner within ten seconds. Otherwise a message that no handler accepts would cycle at the speed of
// the connection.
const (
	minHold   = 100 * time.Millisecond
	freeBurst = 10
)

// finishAll processes the results that have arrived.
func (s *session) finishAll() {
	for _, res := range s.state.dispatcher.collect(&s.results) {
		s.finish(res)
	}
	s.flush()
}

// finish processes a handler's result.
func (s *session) finish(res result) {
	s.out--
	d, how, after := res.d, res.how, res.after
	switch how {
	case ack:
		s.totals.acknowledged++
		s.state.failures.settled(d)
	case reject:
		s.totals.rejected++
		s.state.failures.settled(d)
		s.log.WarnContext(s.state.ctx(), "consumer: message rejected", "message_id", d.MessageId, "error", res.err)
		s.warnOfLoss("a rejected message")
		after = s.pace(d, 0, rejectedFrom(s.queue, d), res.err)
	case postpone:
		s.totals.requeued++
		if res.reason != nil {
			s.log.InfoContext(s.state.ctx(), "consumer: message requeued", "message_id", d.MessageId, "delay", after, "error", res.reason)
		}
		s.warnOfLastDelivery(d, how)
		after = s.pace(d, after, d.Redelivered, res.err)
	case failNow:
		s.totals.failed++
		s.warnOfLastDelivery(d, how)
		n := s.state.failures.before(d, s.state.cfg.ordered())
		s.state.failures.failed(d, n+1)
		// A queue that delays failed messages counts them. A queue that counts without a delay drops the message at
		// its delivery limit, 20 by default.
		count, counted := deliveryCount(d.Headers)
		after = s.pace(d, 0, d.Redelivered && (!counted || count > 20), res.err)
		s.logFailure(d, n+1, after, res.err)
	case fail:
		if s.state.shutdown.handlers.Err() != nil && res.interrupted {
			s.totals.requeued++
			how = postpone // the drain interrupted the handler; the message has not failed
			break
		}
		s.totals.failed++
		s.warnOfLoss("a message from a quorum queue after as many failed deliveries as its delivery limit allows, 21 by default,")
		s.warnOfLastDelivery(d, how)
		n := s.state.failures.before(d, s.state.cfg.ordered())
		s.state.failures.failed(d, n+1)
		after = holdFor(n)
		s.logFailure(d, n+1, after, res.err)
	}
	s.settleAfter(after, res.tag, how)
}

// settleAfter settles a delivery after a delay.
func (s *session) settleAfter(after time.Duration, tag uint64, how settlement) {
	now := time.Now()
	if after <= 0 || s.draining || s.leaving {
		s.settle(tag, how)
		return
	}
	s.held.add(held{now.Add(after), tag, how})
	s.arm()
	if due, _ := s.held.next(); len(s.held.heap) == s.state.cfg.Prefetch {
		s.state.warnings.Warn(s.state.ctx(), s.log, "prefetch",
			"consumer: held messages fill Config.Prefetch and block other deliveries; raise it, or Reject messages that cannot succeed",
			slog.Int("held", len(s.held.heap)), slog.Time("until", due))
	}
}

// pace returns how long a delivery is held before its settlement: after, or longer if messages cycle. again reports
// whether the message was delivered before.
func (s *session) pace(d *Delivery, after time.Duration, again bool, why error) time.Duration {
	now := time.Now()
	if limit := s.state.cfg.consumerTimeout(); after >= limit {
		s.state.warnings.Warn(s.state.ctx(), s.log, "consumer timeout",
			"consumer: a message is held longer than the consumer timeout, after which a quorum queue requeues all deliveries of the consumer",
			slog.String("message_id", d.MessageId), slog.Duration("delay", after), slog.Duration("timeout", limit))
	}
	if !again || after >= minHold {
		return after
	}
	if s.state.requeueLoops.add(now) <= freeBurst {
		return after
	}
	s.state.warnings.Warn(s.state.ctx(), s.log, "circle",
		"consumer: messages are requeued as soon as they are delivered and are now held; pass Requeue a delay, or Reject messages that cannot succeed",
		slog.String("message_id", d.MessageId), slog.Duration("delay", minHold), slog.Any("error", why))
	return minHold
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

// settle queues the settlement of a delivery for flush.
func (s *session) settle(tag uint64, how settlement) {
	if how == ack {
		s.ledger.finish(tag)
		s.acks = append(s.acks, tag)
		return
	}
	s.other = append(s.other, order{tag, how})
}

// flush sends the queued settlements in one write and returns the number of frames. It does nothing else in between,
// because a batch delays other writes on the connection. An error means that the channel is closed or closing, which
// closed reports.
func (s *session) flush() (frames int) {
	if s.withhold || len(s.acks)+len(s.other) == 0 {
		return 0
	}
	frames = len(s.other)
	var err error
	now := time.Now()
	settled, returned := len(s.acks), 0
	s.batch.Begin()
	for _, o := range s.other {
		if o.how == putBack {
			returned++
		} else {
			settled++
		}
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
		s.log.DebugContext(s.state.ctx(), "consumer: deliveries not settled", "error", err)
		return frames
	}
	s.progress = true
	s.totals.settled += settled
	s.totals.returned += returned
	if !s.draining {
		s.proof.start()
	}
	return frames
}

func (s *session) send(o order) error {
	switch o.how {
	case postpone, putBack:
		return s.ch.Nack(o.tag, false, true)
	case fail, failNow:
		return s.ch.Reject(o.tag, true)
	case ack, reject:
	}
	return s.ch.Reject(o.tag, false)
}

// warnOfLoss warns that RabbitMQ may drop messages.
func (s *session) warnOfLoss(what string) {
	if s.state.cfg.HasDeadLetterExchange {
		return
	}
	s.state.warnings.Warn(s.state.ctx(), s.log, "loss", "consumer: RabbitMQ drops "+what+" if the queue has no dead-letter exchange; "+
		"give it one (x-dead-letter-exchange, or a policy) and set Config.HasDeadLetterExchange")
}

func (s *session) logFailure(d *Delivery, attempt int, delay time.Duration, err error) {
	log := s.log.With("message_id", d.MessageId, "attempt", attempt, "delay", delay, "error", err)
	var p *PanicError
	if errors.As(err, &p) {
		log.ErrorContext(s.state.ctx(), "consumer: handler panicked", "stack", string(p.Stack))
		return
	}
	log.WarnContext(s.state.ctx(), "consumer: handler failed")
}

// defaultLimit is the delivery limit of quorum queues without a configured one, since RabbitMQ 4.0. The last delivery
// is the one whose x-delivery-count equals the limit.
const defaultLimit = 20

// warnOfLastDelivery logs a message that RabbitMQ may drop when this delivery is requeued. The queue's own limit is
// unknown: AMQP 0-9-1 offers no way to read it.
func (s *session) warnOfLastDelivery(d *Delivery, how settlement) {
	n, counted := deliveryCount(d.Headers)
	if !counted || !d.Redelivered || n < defaultLimit || s.state.cfg.HasDeadLetterExchange || how == postpone && !s.countsRequeues() {
		return
	}
	msg := "consumer: the last delivery that RabbitMQ's default delivery limit allows has failed, and a queue without a dead-letter exchange drops the message now; "
	if n > defaultLimit {
		msg = "consumer: a message failed more often than RabbitMQ's default delivery limit allows, and a queue without a dead-letter exchange drops it when its own limit is reached; "
	}
	s.log.WarnContext(s.state.ctx(), msg+"give the queue a dead-letter exchange and set Config.HasDeadLetterExchange, or use package retry",
		"message_id", d.MessageId, "delivery_count", n, "default_limit", defaultLimit)
}

// warnOverdue warns of a delivery that has been unsettled for a long time, and returns the delay until the next
// check.
func (s *session) warnOverdue(now time.Time) time.Duration {
	first, ok := s.ledger.oldest()
	if !ok {
		return overdueAfter
	}
	age := now.Sub(first.at)
	if age < overdueAfter {
		return overdueAfter - age
	}
	s.state.warnings.Warn(s.state.ctx(), s.log, "overdue",
		"consumer: a delivery has been unsettled for a long time; a quorum queue requeues it after the consumer timeout, 30 minutes by default, with all other deliveries of the consumer",
		slog.String("message_id", first.messageID), slog.Duration("unsettled", age.Round(time.Second)))
	return logs.Interval
}
