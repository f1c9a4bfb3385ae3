package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/retry"
)

// A way is a combination of the inbox with other parts of amqpkit.
type way struct {
	name   string
	cfg    consumer.Config
	plan   *retry.Plan
	batch  int  // 0 for a Handler
	failed bool // whether the first attempt of each message fails
}

func ways(t *testing.T, queue string) []way {
	t.Helper()
	plan, err := retry.New(retry.Config{Queue: queue, Policy: retry.Schedule(20 * time.Millisecond).MaxAttempts(20)})
	if err != nil {
		t.Fatal(err)
	}
	byKey := func(d *consumer.Delivery) string { return d.MessageId[len(d.MessageId)-1:] }
	return []way{
		{name: "handler", cfg: consumer.Config{Workers: 4}},
		{name: "key", cfg: consumer.Config{Workers: 4, Key: byKey}},
		{name: "batch", cfg: consumer.Config{Workers: 40}, batch: 20},
		{name: "retry", cfg: consumer.Config{Workers: 4}, plan: plan, failed: true},
		{name: "retry with batch", cfg: consumer.Config{Workers: 40}, plan: plan, batch: 20, failed: true},
	}
}

// cutter dials connections and cuts them.
type cutter struct {
	mu    sync.Mutex
	links []net.Conn
}

func (c *cutter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		c.mu.Lock()
		c.links = append(c.links, nc)
		c.mu.Unlock()
	}
	return nc, err
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nc := range c.links {
		_ = nc.Close()
	}
	c.links = nil
}

// exactlyOnce publishes each message twice to a quorum queue, and handles them in two processes whose connections are cut. It
// checks that each message has one effect.
func exactlyOnce(t *testing.T, url string, db *database, w way) {
	t.Helper()
	const messages = 120
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	queue := w.cfg.Queue
	var links cutter
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs: []string{url}, Dialer: links.dial, Logger: slog.New(slog.DiscardHandler),
		Setup: func(ctx context.Context, ac *amqp.Connection) error {
			ch, err := ac.Channel()
			if err != nil {
				return err
			}
			defer ch.Close()
			if _, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": -1}); err != nil {
				return err
			}
			if w.plan != nil {
				return w.plan.Declare(ctx, ac)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	p := kit.NewProducer(t, conn, producer.Config{Logger: slog.New(slog.DiscardHandler)})
	for range 2 {
		for i := range messages {
			if err := p.Publish(ctx, "", queue, amqp.Publishing{MessageId: strconv.Itoa(i)}); err != nil {
				t.Fatal(err)
			}
		}
	}

	if w.plan != nil {
		w.cfg.Middleware = []consumer.Middleware{w.plan.Middleware(p)}
	}
	w.cfg.Logger = slog.New(slog.DiscardHandler)
	run, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for range 2 {
		process := *db
		process.DB = db.open(t)
		process.SetMaxOpenConns(map[bool]int{true: 1, false: 10}[db.Dialect == "sqlite"])
		c, err := consumer.New(conn, w.cfg, process.handlerOf(t, w))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			var interrupted *consumer.DrainError
			if err := c.Run(run); err != nil && !errors.As(err, &interrupted) {
				t.Errorf("Run: %v", err)
			}
		})
	}
	cuts := 0
	for poll := time.Tick(50 * time.Millisecond); ; <-poll {
		n := db.count(t, "SELECT COUNT(*) FROM effects")
		if cuts < 5 && n > cuts*messages/6 {
			links.cut()
			cuts++
		} else if n >= messages && left(ctx, t, conn, queue) == 0 || ctx.Err() != nil {
			break
		}
	}
	stop()
	wg.Wait()
	if total, distinct := db.count(t, "SELECT COUNT(*) FROM effects"), db.count(t, "SELECT COUNT(DISTINCT message) FROM effects"); total != messages || distinct != messages {
		t.Errorf("%d effects of %d messages, want %d", total, distinct, messages)
	}
	if w.plan != nil {
		if n := left(ctx, t, conn, w.plan.ParkingQueue()); n != 0 {
			t.Errorf("%d messages are parked", n)
		}
	}
}

// handlerOf returns the handler for a way. The first attempt of a message fails after its effect if failed is set.
func (db *database) handlerOf(t *testing.T, w way) consumer.Handler {
	t.Helper()
	failure := errors.New("the first attempt fails")
	var h consumer.Handler
	var err error
	if w.batch > 0 {
		h, err = inbox.Batch(db.DB, db.Config, w.batch, 10*time.Millisecond, func(ctx context.Context, tx *sql.Tx, ds []*consumer.Delivery) error {
			for _, d := range ds {
				if err := db.apply(ctx, tx, d); err != nil {
					return err
				}
			}
			if w.failed && rand.N(3) == 0 {
				return failure
			}
			return nil
		})
	} else {
		h, err = inbox.Handler(db.DB, db.Config, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
			if err := db.apply(ctx, tx, d); err != nil {
				return err
			}
			if w.failed && retry.Attempt(ctx) == 1 {
				return failure
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// left returns the number of ready messages of a queue.
func left(ctx context.Context, t *testing.T, conn *amqpkit.Conn, queue string) int {
	t.Helper()
	for {
		ac, err := conn.PublishConnection(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if ch, err := ac.Channel(); err == nil {
			q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
			_ = ch.Close()
			if err == nil {
				return q.Messages
			}
		}
	}
}

func TestDroppedConnectionsDoNotRepeatEffects(t *testing.T) {
	for _, w := range ways(t, "orders") {
		t.Run(w.name, func(t *testing.T) {
			w.cfg.Queue = "orders"
			onEach(t, func(t *testing.T, db *database) {
				exactlyOnce(t, amqptest.Start(t).URL(), db, w)
			})
		})
	}
}

func TestDroppedConnectionsOfRabbitMQDoNotRepeatEffects(t *testing.T) {
	db := newDatabase(t, "postgresql")
	broker := kit.Broker(t)
	queue := kit.Unique("inbox")
	for _, w := range ways(t, queue) {
		t.Run(w.name, func(t *testing.T) {
			w.cfg.Queue = queue
			db.exec(t, "DELETE FROM effects")
			db.exec(t, "DELETE FROM amqpkit_inbox")
			exactlyOnce(t, broker.URL(), db, w)
		})
	}
	for _, suffix := range []string{"", ".parked"} {
		if err := broker.DeleteQueue(t.Context(), queue+suffix); err != nil {
			t.Error(err)
		}
	}
}
