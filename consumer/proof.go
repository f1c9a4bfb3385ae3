package consumer

import (
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// Without further deliveries settlements are proven by asking: proofEvery after the last one, and in slow traffic, up to
// proofMost in that time, once a second. Once the broker has read them and the queue has answered, they get another
// proofEvery to be applied.
const (
	proofEvery = 500 * time.Millisecond
	proofMost  = settledAtOnce
	proofRare  = 30 * time.Second // the interval grows to this while the queue does not answer
)

var errNoLeader = errors.New("the queue did not answer: its leader is unreachable")

// A proof has settlements stop being in doubt. It costs a round trip a second in slow traffic and at most one for each
// settlement, none in quick traffic, whose deliveries prove all but the last prefetch, and none once everything is
// proven.
type proof struct {
	timer *time.Timer
	armed bool
	every time.Duration
	seen  int // settlements sent when the timer fired last
	read  int // settlements that the broker had read when the queue answered last
	asked time.Time
}

// doubt starts the proof of settlements that were just sent.
func (s *session) doubt() {
	if !s.proof.armed && !s.draining {
		s.proof.armed, s.proof.every = true, proofEvery
		s.proof.timer.Reset(proofEvery)
	}
}

// prove takes the next step of the proof. An error of its call means that the channel was closed, which
// s.closed reports.
func (s *session) prove() {
	p, l := &s.proof, &s.ledger
	l.taken = max(l.taken, p.read)
	if p.armed = l.inDoubt() > 0; !p.armed {
		return
	}
	sent, now := l.settled-p.seen, time.Now()
	if sent > 0 {
		p.every = proofEvery
	}
	if sent == 0 || sent <= proofMost && now.Sub(p.asked) >= 2*proofEvery {
		p.asked = now
		there, err := s.reachesQueue()
		if err != nil {
			s.log.Debug("consumer: settlements not proven", "error", err)
			return
		}
		if there {
			p.read = l.settled
		} else {
			p.every = min(2*p.every, proofRare)
		}
	}
	p.seen = l.settled
	p.timer.Reset(p.every)
}

// reachesQueue returns when the broker has read everything sent before, and reports whether the queue answers: a
// node whose queue's leader is unreachable counts no consumers, not even this one. The node's answer has to do
// where a passive declare may be refused (RabbitMQ 4.3.0 alone wants the configure permission), and for a stream, which
// counts none and keeps no settlement.
func (s *session) reachesQueue() (bool, error) {
	if s.run.mayNotAsk || s.run.cfg.streams() || s.ac.Properties["version"] == "4.3.0" {
		return true, s.arrived()
	}
	q, err := wire.Call(s.run.calls, s.ac, func() (amqp.Queue, error) {
		return s.ch.QueueDeclarePassive(s.queue, false, false, false, false, nil)
	})
	s.run.mayNotAsk = wire.Code(err) == amqp.AccessRefused
	return q.Consumers > 0, err
}
