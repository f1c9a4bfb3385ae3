package consumer

import (
	"context"
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// provenAfter is how long a session must last, if it settles nothing, for the next one to
// start with a fresh backoff: one that is cancelled as soon as it stands must not loop hot.
const provenAfter = time.Second

// overdueAfter is how long a delivery may be unsettled before it is logged: half of
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
	channel

	results results // from the workers
	out     int     // deliveries with the dispatcher or a handler, result not received
	totals  totals
	batch   *wire.Batch // of settlements
	acks    []uint64    // to be sent by flush
	other   []order     // also: rejections and requeues

	held    waiting
	timer   *time.Timer // fires when the next held delivery is due
	overdue *time.Timer // fires when a delivery may have been unsettled for too long
	ledger  ledger
	proof   proof
	first   firstMessage // of a stream

	began   time.Time
	own     bool   // the connection is for this session alone
	trial   *trial // of a subscription with a prefetch of one
	leaving bool   // for its successor

	draining bool
	withhold bool // flush sends nothing: the settlements wait for the end of an ordered drain
	progress bool // something was settled

	// Set by end.
	left int // deliveries to come again although they were finished, or to be given back in the drain
}

// A trial is the condition for ending a suspicion.
type trial struct {
	calm  time.Duration // the minimum life of the subscription
	back  int           // unsettled messages at the last loss, which are redelivered
	hard  bool          // a connection was closed for a reason that a message can be
	found bool          // the message is in this queue, as far as that can be known
}

// newSession opens a channel. subscribe completes the session, and end closes it in any case.
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

// subscribe begins to consume.
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
	return &Delivery{Delivery: d, Queue: s.queue, gone: s.gone}
}

// role returns the role of the session's connection, for log lines.
func (s *session) role() string {
	if s.own {
		return "dedicated"
	}
	return "consuming"
}

// exposed reports whether a message of this session may have closed the connection: some were unsettled, or it had just begun.
func (s *session) exposed() bool { return s.ledger.open > 0 || time.Since(s.began) < provenAfter }

// unsettled returns how many deliveries are redelivered although handlers finished them or the drain was to requeue them, and
// how the session was lost.
func (s *session) unsettled() (n int, cause error) {
	return s.left + int(s.results.unsent.Load()), s.results.lost
}

// lost says how the session came to its end, nil standing for a basic.cancel.
func (s *session) lost(err error) error {
	lost := &LostError{Queue: s.queue, Err: err}
	if first, ok := s.ledger.oldest(); ok {
		lost.Oldest = time.Since(first.at)
	}
	return lost
}

// withdraw takes back the deliveries that no handler has begun.
func (s *session) withdraw() []job {
	jobs := s.state.dispatcher.withdraw()
	s.out -= len(jobs)
	return jobs
}

// remember records the position of the session's stream. cause is how the session was lost, if it was.
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

// end closes the channel and lets go of the handlers that still run. Their results have
// nowhere to go: what they did not settle, the broker delivers again. cause is how the session
// was lost, if it was.
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
		_ = wire.Close(ctx, s.ac) // or it is cut
	}
}
