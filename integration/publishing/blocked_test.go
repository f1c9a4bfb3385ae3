package publishing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

// raiseAlarm raises a real memory alarm until the test ends, or clear is called.
func raiseAlarm(t *testing.T) (clear func()) {
	t.Helper()
	b := kit.NeedsControl(t)
	clear = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := b.MemoryAlarm(ctx, false); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(clear)
	if err := b.MemoryAlarm(kit.Within(t, 20*time.Second), true); err != nil {
		t.Fatal(err)
	}
	return clear
}

func TestS23MemoryAlarmBlocksPublishersForTheirCtxAndNobodyElse(t *testing.T) {
	const bound = time.Second + kit.Soon
	ctx := kit.Within(t, 90*time.Second)
	queue, work := kit.QuorumQueue(t, nil), kit.QuorumQueue(t, nil)
	conn := kit.Connect(t, amqpkit.Config{})
	p := kit.NewProducer(t, conn, producer.Config{})
	const jobs = 200
	preload := make([]producer.Message, jobs)
	for i := range preload {
		preload[i].Key = work
	}
	if err := errors.Join(p.PublishAll(ctx, preload)...); err != nil {
		t.Fatal(err)
	}
	session, err := conn.PublishConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	clear := raiseAlarm(t)

	// The first one is handed over, since RabbitMQ tells a connection only when it publishes.
	first, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{MessageId: "first"})
	if err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool { return conn.Blocked() != nil })
	if err := conn.Blocked(); !errors.Is(err, amqperr.ErrBlocked) || !strings.Contains(err.Error(), "memory") {
		t.Errorf("Blocked = %v, want ErrBlocked with the broker's reason", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- p.Publish(ctx, "", queue, amqp.Publishing{MessageId: "waiting"}) }()

	var wg sync.WaitGroup
	// Publishers on the blocked connection, one of them without a channel yet.
	for name, p := range map[string]*producer.Producer{"old": p, "new": kit.NewProducer(t, conn, producer.Config{})} {
		wg.Go(func() {
			if name == "new" {
				defer func() { // it has nothing to wait for, and must not cost the others their connection
					closing := time.Now()
					if err := p.Close(ctx); err != nil || time.Since(closing) > kit.Soon {
						t.Errorf("Close of the new producer = %v after %v", err, time.Since(closing))
					}
				}()
			}
			start := time.Now()
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			err := p.Publish(short, "", queue, amqp.Publishing{MessageId: "never"})
			took := time.Since(start)
			if !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, amqperr.ErrBlocked) || !errors.Is(err, context.DeadlineExceeded) || took > bound {
				t.Errorf("Publish of the %s producer = %v after %v, want ErrNotPublished and ErrBlocked", name, err, took)
			}
			t.Logf("Publish(ctx 1 s) of the %s producer returned after %v: %v", name, took, err)
		})
	}
	// Connections that are closed while they are blocked, one of them in the middle of a message that is more than
	// the socket's buffers take.
	wg.Go(func() {
		closeBlocked(ctx, t, bound, producer.Message{Key: queue, Publishing: amqp.Publishing{MessageId: "small"}})
	})
	wg.Go(func() {
		closeBlocked(ctx, t, bound, producer.Message{Key: queue, Publishing: amqp.Publishing{MessageId: "large", Body: make([]byte, 12<<20)}})
	})
	// Consumers go on: their acknowledgements are taken, too.
	wg.Go(func() {
		start := time.Now()
		consumeAll(ctx, t, conn, work, jobs)
		t.Logf("%d messages were consumed meanwhile, in %v", jobs, time.Since(start))
	})
	wg.Wait()
	if conn.Blocked() == nil {
		t.Fatal("the alarm has cleared too early to show anything")
	}

	cleared := time.Now()
	clear()
	if err := errors.Join(first.Wait(ctx), <-waiting); err != nil {
		t.Errorf("what waited: %v", err)
	}
	t.Logf("what waited was confirmed %v after the alarm was cleared", time.Since(cleared))
	if err := p.Publish(ctx, "", queue, amqp.Publishing{MessageId: "after"}); err != nil || conn.Blocked() != nil {
		t.Errorf("afterwards Publish = %v, Blocked = %v", err, conn.Blocked())
	}
	if again, err := conn.PublishConnection(ctx); again != session || err != nil {
		t.Errorf("the connection was lost over it (%v)", err)
	}
	held := kit.Copies(kit.Drained(t, kit.RawChannel(t), queue))
	if held["first"] != 1 || held["waiting"] != 1 || held["after"] != 1 || held["never"] != 0 || held["small"] > 1 || held["large"] > 1 {
		t.Errorf("the queue held %v; want first, waiting and after once each, those of the closed connections once at most, and no other", held)
	}
}

// closeBlocked publishes a message on a connection of its own, and closes all while the broker blocks it.
func closeBlocked(ctx context.Context, t *testing.T, bound time.Duration, m producer.Message) {
	t.Helper()
	id := m.Publishing.MessageId
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{URLs: []string{kit.Broker(t).URL()}, Name: t.Name() + "/" + id, Logger: kit.Logger(t)})
	if err != nil {
		t.Error(err)
		return
	}
	p, err := producer.New(conn, producer.Config{Logger: kit.Logger(t)})
	if err != nil {
		t.Error(err)
		return
	}
	second := func(what string, call func(context.Context) error) error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		start := time.Now()
		err := call(short)
		took := time.Since(start)
		t.Logf("%s: %s(ctx 1 s) returned after %v: %v", id, what, took, err)
		if took > bound {
			t.Errorf("that is more than %v", bound)
		}
		return err
	}
	// RabbitMQ blocks the connection over it, and may still take it or not read it to its end.
	err = second("the first Publish", func(ctx context.Context) error {
		return p.Publish(ctx, m.Exchange, m.Key, m.Publishing)
	})
	if err != nil && (!errors.Is(err, producer.ErrUnconfirmed) || !errors.Is(err, amqperr.ErrBlocked)) {
		t.Errorf("want nil, or ErrUnconfirmed and ErrBlocked")
	}
	if err == nil && len(m.Publishing.Body) > 0 {
		t.Errorf("the alarm let a large message through: it shows nothing")
	}
	kit.WaitFor(t, func() bool { return conn.Blocked() != nil })
	left, err := p.PublishAsync(ctx, "", m.Key, amqp.Publishing{MessageId: "never"})
	if err != nil {
		t.Error(err)
		return
	}
	if id == "small" {
		if err := second("Close of the connection first", conn.Close); err != nil {
			t.Errorf("want nil")
		}
	}
	err = second("Close of the producer", p.Close)
	if !errors.Is(err, producer.ErrNotPublished) || !strings.Contains(err.Error(), "1 not sent") {
		t.Errorf("want ErrNotPublished that counts the message")
	}
	if err := left.Wait(ctx); !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, producer.ErrClosed) {
		t.Errorf("the message that was left: %v, want ErrNotPublished and ErrClosed", err)
	}
	if err := second("Close of the connection", conn.Close); err != nil {
		t.Errorf("want nil")
	}
}

// consumeAll handles n messages of a queue and returns when none is left, unacknowledged or not.
func consumeAll(ctx context.Context, t *testing.T, conn *amqpkit.Conn, queue string, n int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var handled atomic.Int64
	c, err := consumer.New(conn, consumer.Config{Queue: queue, Workers: 4, Logger: kit.Logger(t)}, func(context.Context, *consumer.Delivery) error {
		if handled.Add(1) == n {
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
		return
	}
	if err := c.Run(ctx); err != nil || handled.Load() != n {
		t.Errorf("Run = %v after %d of %d messages", err, handled.Load(), n)
	}
	if counts, err := kit.Broker(t).Queue(t.Context(), queue); err != nil || counts.Ready+counts.Unacked != 0 {
		t.Errorf("the queue holds %+v (%v), want nothing: all was acknowledged", counts, err)
	}
}

func TestS23BlockedGatesPublishersAndUnblockedOrANewConnectionLetsThemGo(t *testing.T) {
	for name, free := range map[string]func(*amqptest.Proxy){
		"unblocked":      func(proxy *amqptest.Proxy) { proxy.Inject(amqptest.FromBroker, amqptest.ConnectionUnblocked()) },
		"new connection": func(proxy *amqptest.Proxy) { proxy.Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			queue := kit.QuorumQueue(t, nil)
			proxy, conn := kit.Through(t, amqpkit.Config{})
			p := kit.NewProducer(t, conn, producer.Config{})
			ctx := kit.Within(t, 20*time.Second)
			if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
				t.Fatal(err)
			}
			var sent atomic.Int64
			proxy.Observe(func(e amqptest.Event) {
				if e.Kind == amqptest.Published {
					sent.Add(1)
				}
			})
			proxy.Inject(amqptest.FromBroker, amqptest.ConnectionBlocked("low on disk"))
			kit.WaitFor(t, func() bool { return conn.Blocked() != nil })
			for range 2 {
				short, ago := endsIn(t, 100*time.Millisecond)
				err := p.Publish(short, "", queue, amqp.Publishing{})
				if took := ago(); !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, amqperr.ErrBlocked) || !strings.Contains(fmt.Sprint(err), "low on disk") || took > kit.Soon {
					t.Errorf("Publish = %v, %v after the end of ctx; want ErrNotPublished, ErrBlocked and the reason", err, took)
				}
			}
			waiting := make([]*producer.Receipt, 5)
			for i := range waiting {
				var err error
				if waiting[i], err = p.PublishAsync(ctx, "", queue, amqp.Publishing{Body: []byte{byte(i)}}); err != nil {
					t.Fatal(err)
				}
			}
			if n := sent.Load(); n != 0 {
				t.Errorf("%d messages were sent to a broker that blocks", n)
			}
			free(proxy)
			for i, r := range waiting {
				if err := r.Wait(ctx); err != nil {
					t.Errorf("message %d, which waited: %v", i, err)
				}
			}
			got := kit.Drained(t, kit.RawChannel(t), queue)
			if len(got) != 6 || sent.Load() != 5 {
				t.Fatalf("%d messages were sent, the queue held %d, want 5 and 6", sent.Load(), len(got))
			}
			for i, d := range got[1:] {
				if string(d.Body) != string([]byte{byte(i)}) {
					t.Errorf("place %d has message %q: the order is lost", i, d.Body)
				}
			}
		})
	}
}
