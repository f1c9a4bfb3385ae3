package parking

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/internal/wire"
)

const (
	wornFrom      = 10               // counted deliveries, see ErrWorn
	defaultHold   = 10 * time.Minute // a third of RabbitMQ's default consumer timeout
	closeTimeout  = 5 * time.Second
	overtime      = 20 * time.Millisecond // see outlast
	returnTimeout = time.Second
	returnPoll    = 5 * time.Millisecond
	settleFor     = 100 * time.Millisecond // see look.close
)

// ErrWorn ends a look that lasted longer than messages may be held, at one that has come again and that RabbitMQ before 4.3 has
// counted as delivered ten times: beyond the queue's delivery limit, 20 by default, giving it back would drop it. It
// stays in the queue, as do those not looked at.
var ErrWorn = errors.New("a message has been delivered so often that its queue may drop it")

// A look goes once through a queue, message by message, over a channel of its own. What is not acknowledged is
// back in its place when the look is closed, or lost.
//
// RabbitMQ takes back what is held for longer than its consumer timeout, by closing the channel. So before that everything
// in hand is given back. A queue puts it in front as a rule, and at its end if it has no delivery limit and RabbitMQ is
// older than 4.3; when it comes again it is known by its mark, taken in hand, and not shown once more.
//
// A message that RabbitMQ cannot deliver costs the connection. Then everything in hand is back, and the look begins again, one
// message at a time: so it reaches whatever comes before that message.
type look struct {
	conn   consumer.Connection
	ac     *amqp.Connection
	own    bool // the connection is for this look alone
	ch     *amqp.Channel
	closed chan *amqp.Error // why RabbitMQ closed the channel
	queue  string
	hold   time.Duration
	left   int // messages that were there when it began, and have not been shown
	held   map[uint64]mark
	since  time.Time // when the first that is held was taken
	shown  map[mark]int
	acked  bool

	careful    bool // after a lost connection: one message at a time
	advanced   bool // something was shown since the connection was lost
	unreadable []error
}

// lookInto begins a look at the messages that a queue has now: what is parked meanwhile is not among them.
func lookInto(ctx context.Context, conn consumer.Connection, queue string, hold time.Duration) (*look, error) {
	if p := validate.Name(queue); p != nil {
		return nil, fault("Queue", p.Problem, p.Fix)
	}
	if queue == "" {
		return nil, fault("Queue", "is empty", "name a parking queue, as Plan.ParkingQueue does")
	}
	l := &look{conn: conn, queue: queue, hold: hold, held: map[uint64]mark{}, shown: map[mark]int{}}
	messages, err := l.open(ctx)
	l.left = messages
	return l, err
}

// open opens a connection for the look alone where there is one to be had, and a channel. It returns how many messages the
// queue has.
func (l *look) open(ctx context.Context) (messages int, err error) {
	ac, err := l.conn.ConsumeConnection(ctx)
	if err != nil {
		return 0, fmt.Errorf("parking: %w", err)
	}
	l.ac, l.own = ac, false
	if d, ok := l.conn.(interface {
		DedicatedConnection(ctx context.Context) (*amqp.Connection, error)
	}); ok {
		if own, err := d.DedicatedConnection(ctx); err == nil { // else the number of connections may be limited
			l.ac, l.own = own, true
		}
	}
	err = wire.Do(ctx, l.ac, func() error {
		ch, err := l.ac.Channel()
		if err != nil {
			return err
		}
		q, err := ch.QueueDeclarePassive(l.queue, false, false, false, false, nil)
		if err != nil {
			return errors.Join(err, ch.Close())
		}
		l.ch, l.closed, messages = ch, ch.NotifyClose(make(chan *amqp.Error, 1)), q.Messages
		return nil
	})
	if err != nil {
		l.drop(ctx)
		return 0, l.failed(err)
	}
	return messages, nil
}

// drop closes the connection if it is the look's own.
func (l *look) drop(ctx context.Context) {
	if !l.own {
		return
	}
	late, end := outlast(ctx)
	defer end()
	late, cancel := context.WithTimeout(late, returnTimeout)
	defer cancel()
	if ctx.Err() != nil || wire.Close(late, l.ac) != nil {
		wire.Kill(l.ac)
	}
}

// cause returns why the channel is gone if err says only that it is.
func (l *look) cause(err error) error {
	if wire.IsClosed(err) {
		select {
		case cause := <-l.closed:
			if cause != nil {
				return cause
			}
		default:
		}
	}
	return err
}

func (l *look) failed(err error) error {
	return fmt.Errorf("parking: look into queue %s: %w", validate.Quote(l.queue), l.cause(err))
}

// A BlockedError reports a queue whose next message RabbitMQ cannot deliver to a client of AMQP 0-9-1, as one from an AMQP
// 1.0 publisher with an application property of type uuid, char or map: at each attempt it closes the connection. The
// messages in front of that one were processed. Those behind it cannot be reached while it is there: remove it with an AMQP
// 1.0 client.
type BlockedError struct {
	Queue string
	Err   error // how the connection was lost, an *amqp.Error
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("parking: queue %s is blocked by a message that RabbitMQ cannot deliver; the messages before it were processed, those behind it cannot be reached; "+
		"remove it with an AMQP 1.0 client: %v", validate.Quote(e.Queue), e.Err)
}

func (e *BlockedError) Unwrap() error { return e.Err }

// next returns the next n messages at most, none at the end.
func (l *look) next(ctx context.Context, n int) (fresh []amqp.Delivery, err error) {
	if err := l.pause(ctx, 0); err != nil {
		return nil, err
	}
	for l.left > 0 {
		if l.careful {
			n = min(n, 1)
		}
		if len(fresh) >= n {
			break
		}
		if len(l.held) == 0 {
			l.since = time.Now()
		}
		want := min(n-len(fresh), l.left)
		ds, err := l.get(ctx, want)
		if err = l.cause(err); wire.HardClose(err) {
			if err := l.again(ctx, fresh, err); err != nil {
				return nil, err
			}
			fresh = nil
			continue
		}
		for i := range ds {
			d := &consumer.Delivery{Delivery: ds[i]}
			m := markOf(d)
			l.held[d.DeliveryTag] = m
			reason, unreadable := wire.Unreadable(d.Headers)
			switch {
			case l.shown[m] > 0:
				l.shown[m]--
				if failures(d) >= wornFrom && countsReturns(l.ac.Properties) {
					err = ErrWorn
				}
				continue
			case unreadable:
				l.unreadable = append(l.unreadable, &consumer.UnreadableError{Queue: l.queue, MessageID: d.MessageId, Reason: reason})
			default:
				fresh = append(fresh, ds[i])
			}
			l.left--
			l.advanced = true
		}
		if err != nil {
			return nil, l.failed(err)
		}
		if len(ds) < want {
			l.left = 0
		}
	}
	return fresh, nil
}

// again begins again after the connection was lost to a message that RabbitMQ cannot deliver. What was taken and not shown yet is
// to be shown; if the connection was lost at once, nothing is left to do.
func (l *look) again(ctx context.Context, taken []amqp.Delivery, lost error) error {
	l.drop(ctx)
	if l.careful && !l.advanced {
		return &BlockedError{Queue: l.queue, Err: lost}
	}
	for i := range taken {
		delete(l.held, taken[i].DeliveryTag)
	}
	l.left += len(taken)
	l.forget()
	l.careful, l.advanced = true, false
	_, err := l.open(ctx)
	return err
}

// forget has what is held be passed over when it comes again.
func (l *look) forget() {
	for _, m := range l.held {
		l.shown[m]++
	}
	clear(l.held)
}

// stays returns an error that names the messages which cannot be read, or nil.
func (l *look) stays() error {
	const most = 16
	errs := l.unreadable
	if len(errs) > most {
		errs = append(errs[:most:most], fmt.Errorf("parking: and %d more messages that cannot be read", len(errs)-most))
	}
	return errors.Join(errs...)
}

// get takes n messages from the queue, or all that it has.
func (l *look) get(ctx context.Context, n int) ([]amqp.Delivery, error) {
	return wire.Call(ctx, l.ac, func() (ds []amqp.Delivery, err error) {
		for len(ds) < n {
			d, ok, err := l.ch.Get(l.queue, false)
			if err != nil || !ok {
				return ds, err
			}
			ds = append(ds, d)
			if ctx.Err() != nil { // RabbitMQ is there: no reason to kill its link
				return ds, context.Cause(ctx)
			}
		}
		return ds, nil
	})
}

// pause waits before the next messages are taken, and gives back what would be held for too long by then.
func (l *look) pause(ctx context.Context, d time.Duration) error {
	if len(l.held) > 0 && time.Since(l.since)+d >= l.hold {
		if err := l.giveBack(ctx); err != nil {
			return l.failed(err)
		}
	}
	if d <= 0 {
		return context.Cause(ctx)
	}
	return sleep(ctx, d)
}

// giveBack puts everything in hand back into the queue. Unlike what a closed channel returns, this does not count as
// failed deliveries.
func (l *look) giveBack(ctx context.Context) error {
	err := wire.Do(ctx, l.ac, func() error { return l.ch.Nack(0, true, true) })
	if err != nil {
		return err
	}
	l.forget()
	return nil
}

func (l *look) ack(ctx context.Context, d *amqp.Delivery) error {
	l.acked = true
	delete(l.held, d.DeliveryTag)
	return wire.Do(ctx, l.ac, func() error { return l.ch.Ack(d.DeliveryTag, false) })
}

// close gives back what was not acknowledged. RabbitMQ throws away acknowledgements of a quorum queue that it still has in its
// buffers when the channel closes: they get the time to leave it, less of it when ctx has ended, so that close is over
// 250 ms later.
func (l *look) close(ctx context.Context) error {
	defer l.drop(ctx)
	if l.ch.IsClosed() {
		return nil
	}
	if l.acked && sleep(ctx, settleFor) != nil {
		_ = sleep(context.Background(), settleFor/2)
	}
	late, end := outlast(ctx)
	defer end()
	late, cancel := context.WithTimeout(late, closeTimeout)
	defer cancel()
	n := len(l.held)
	err := l.giveBack(late)
	if err == nil {
		l.awaitReturn(ctx, late, n)
		err = wire.Do(late, l.ac, l.ch.Close)
	}
	if err == nil || wire.IsClosed(err) {
		return nil
	}
	wire.Kill(l.ac) // a channel that is not closed would go on holding messages
	return l.failed(err)
}

// awaitReturn waits until the queue has what was given back, which a quorum queue takes in its own time: the next look is
// to see it. Where others consume it may never be as many, so there is an end to it.
func (l *look) awaitReturn(ctx, late context.Context, n int) {
	for end := time.Now().Add(returnTimeout); n > 0 && time.Now().Before(end); {
		q, err := wire.Call(late, l.ac, func() (amqp.Queue, error) {
			return l.ch.QueueDeclarePassive(l.queue, false, false, false, false, nil)
		})
		if err != nil || q.Messages >= n || sleep(ctx, returnPoll) != nil {
			return
		}
	}
}

// outlast returns a ctx that ends a little later than ctx: for what has yet to be said to RabbitMQ when ctx has ended.
func outlast(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(overtime, func() { cancel(context.Cause(ctx)) })
	})
	return late, func() { stop(); cancel(nil) }
}

// Peek returns the first n messages of a parking queue, or of any other but a stream, and leaves them there. RabbitMQ before
// 4.3 puts them behind those that were not looked at if the queue has no delivery limit, as a plan's parking queue has none.
//
// Being looked at counts as a delivery, which a plan's parking queue takes any number of times; a queue with a delivery
// limit may drop a message by it.
//
// Messages that cannot be read are not returned: the error then has a *consumer.UnreadableError for each, and it is a
// *[BlockedError] if RabbitMQ cannot deliver the next one. The other messages are returned along with it.
func Peek(ctx context.Context, conn consumer.Connection, queue string, n int) (messages []Message, err error) {
	l, err := lookInto(ctx, conn, queue, defaultHold)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.stays(), l.close(ctx)) }()
	for len(messages) < n {
		ds, err := l.next(ctx, n-len(messages))
		if err != nil || len(ds) == 0 {
			return messages, err
		}
		for i := range ds {
			messages = append(messages, parkedFrom(&ds[i]))
		}
	}
	return messages, nil
}

// failures returns how often RabbitMQ has counted the delivery as failed. A publisher may set the header on a new message.
func failures(d *consumer.Delivery) int {
	n, _ := d.Headers["x-delivery-count"].(int64)
	acquired, apart := d.Headers["x-acquired-count"].(int64)
	if !d.Redelivered || apart && n > acquired { // a publisher's, until the first failure
		return 0
	}
	return int(min(max(n, 0), 1<<30))
}

// countsReturns reports whether the broker counts each returned message as failed, as RabbitMQ before 4.3 does.
func countsReturns(properties amqp.Table) bool {
	version, _ := properties["version"].(string)
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	x, errX := strconv.Atoi(major)
	y, errY := strconv.Atoi(minor)
	return errX != nil || errY != nil || x < 4 || x == 4 && y < 3
}
