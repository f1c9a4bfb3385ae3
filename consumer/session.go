package consumer

import (
	"context"
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// provenAfter is the lifetime after which a session that settled nothing resets the backoff. It prevents a tight loop
// if each subscription is cancelled at once.
const provenAfter = time.Second

// overdueAfter is the time after which an unsettled delivery is logged: half of RabbitMQ's default consumer timeout.
// Classic queues and streams have no such timeout.
const overdueAfter = 15 * time.Minute

// An order is a settlement that has not been sent.
type order struct {
	tag uint64
	how settlement
}

// A session is one subscription: a channel, its consumer and its deliveries. Run's goroutine owns it, and no other
// goroutine uses the channel. A new subscription is a new session, so deliveries and results of different sessions
// are never mixed.
type session struct {
	channel

	results results // received from the workers
	out     int     // deliveries passed to the dispatcher whose results have not been collected
	totals  totals
	batch   *wire.Batch // batches settlements into one write
	acks    []uint64    // delivery tags that flush acknowledges
	other   []order     // rejections and requeues that flush sends

	held    waiting
	timer   *time.Timer // fires when the next held delivery is due
	overdue *time.Timer // fires when a delivery may have been unsettled for too long
	ledger  ledger
	proof   proof
	first   firstMessage // used for streams only

	began   time.Time
	own     bool   // the connection is dedicated to this session
	trial   *trial // set for a subscription with a prefetch of one
	leaving bool   // finishes its deliveries before its successor takes over

	draining bool
	withhold bool // flush sends nothing until the end of an ordered drain
	progress bool // a delivery was settled

	// Set by end.
	left int // finished deliveries, or ones requeued by the drain, whose settlement may be lost
}

// A trial is the condition for ending a suspicion.
type trial struct {
	minLife time.Duration // the minimum lifetime of the subscription
	back    int           // unsettled messages at the last loss, which are redelivered
	hard    bool          // a connection was closed with a reason that a message can cause
	found   bool          // the message is probably in this queue
}

// newSession opens a channel. Call subscribe next, and end in any case.
func newSession(ctx context.Context, state *runState, ac *amqp.Connection, queue string, prefetch int) (*session, error) {
	tag := state.cfg.newTag(queue)
	s := &session{
		channel: channel{state: state, ac: ac, queue: queue, tag: tag, log: state.cfg.Logger.With("queue", queue, "consumer_tag", tag)},
		results: newResults(),
		batch:   wire.BatchOn(ac),
		ledger:  ledger{window: prefetch},
	}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	s.began = time.Now()
	s.timer, s.overdue, s.proof.timer = stoppedTimer(), time.NewTimer(overdueAfter), stoppedTimer()
	return s, nil
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// subscribe starts consuming.
func (s *session) subscribe(ctx context.Context) error {
	if err := s.channel.consume(ctx, s.ledger.window); err != nil {
		return err
	}
	if s.state.cfg.streams() {
		s.state.position.subscribed(s.queue, s.began)
		if !s.state.position.skipFirst {
			s.first.request(ctx, &s.channel)
		}
	}
	return nil
}

func (s *session) delivery(d amqp.Delivery) *Delivery {
	d.Acknowledger = byResult{}
	return &Delivery{Delivery: d, Queue: s.queue, isClosed: s.isClosed}
}

// role returns the role of the session's connection, for log lines.
func (s *session) role() string {
	if s.own {
		return "dedicated"
	}
	return "consuming"
}

// exposed reports whether a message of this session may have closed the connection: some were unsettled, or the
// session had just started.
func (s *session) exposed() bool { return s.ledger.open > 0 || time.Since(s.began) < provenAfter }

// unsettled returns the number of deliveries that may be redelivered although handlers finished them or the drain
// requeued them, and how the session was lost.
func (s *session) unsettled() (n int, cause error) {
	return s.left + int(s.results.unsent.Load()), s.results.lost
}

// lost returns a *LostError with the cause err, nil for a basic.cancel.
func (s *session) lost(err error) error {
	lost := &LostError{Queue: s.queue, Err: err}
	if first, ok := s.ledger.oldest(); ok {
		lost.Oldest = time.Since(first.at)
	}
	return lost
}

// withdraw removes the deliveries whose handlers have not started, and returns them.
func (s *session) withdraw() []job {
	jobs := s.state.dispatcher.withdraw()
	s.out -= len(jobs)
	return jobs
}

// remember records the position in the session's stream. cause is how the session was lost, or nil.
func (s *session) remember(cause error) {
	if !s.state.cfg.streams() || s.first.redeclared {
		return
	}
	p := &s.state.position
	var lost *LostError
	if errors.As(cause, &lost) {
		p.cancelled = lost.Err == nil
		p.skipFirst = p.skipFirst || s.first.awaited && wire.HardClose(lost.Err)
	}
	if s.ledger.end > 0 {
		p.known, p.offset = true, s.ledger.unread()
	}
}

// end closes the channel. Handlers may still be running, but their results are discarded, and the broker redelivers
// their messages. cause is how the session was lost, or nil.
func (s *session) end(cause error) {
	s.timer.Stop()
	s.overdue.Stop()
	s.proof.timer.Stop()
	s.withdraw()
	if cause != nil {
		s.left = s.ledger.inDoubt()
		if s.draining {
			s.left += s.ledger.open - s.out
		}
	}
	s.remember(cause)
	s.first.close(&s.channel)
	for _, res := range s.state.dispatcher.shut(&s.results, cause) {
		res.logUnsent(s.state.ctx(), s.log)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	s.close(ctx)
	if s.own {
		_ = wire.Close(ctx, s.ac) // closes the socket if the broker does not answer
	}
}
