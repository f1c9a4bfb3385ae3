package docs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// The functions in this file are the code of recipes.md.

func once(db *sql.DB, next func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		if d.MessageId == "" {
			return consumer.Reject(errors.New("the message has no id"))
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // does nothing after Commit
		r, err := tx.ExecContext(ctx, "INSERT INTO handled (id) VALUES ($1) ON CONFLICT DO NOTHING", d.MessageId)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return err // nil acknowledges the duplicate
		}
		if err := next(ctx, tx, d); err != nil {
			return err
		}
		return tx.Commit()
	}
}

func TestRecipePriorities(t *testing.T) {
	tasks := topology.Topology{Queues: []topology.Queue{{
		Name: "tasks", Type: topology.Classic, MaxPriority: 5,
	}}}
	conn, p := start(t, tasks)
	for _, priority := range []uint8{0, 5, 1} {
		err := p.Publish(t.Context(), "", "tasks", amqp.Publishing{Priority: priority})
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []int
	consume(t, conn, consumer.Config{Queue: "tasks", Prefetch: 1}, 3, func(_ context.Context, d *consumer.Delivery) error {
		got = append(got, int(d.Priority))
		return nil
	})
	if fmt.Sprint(got) != "[5 1 0]" {
		t.Errorf("handled priorities %v", got)
	}
}

// limited returns a middleware that starts at most n handlers in each interval.
func limited(n int, interval time.Duration) consumer.Middleware {
	return func(next consumer.Handler) consumer.Handler {
		var mu sync.Mutex
		var free time.Time
		return func(ctx context.Context, d *consumer.Delivery) error {
			mu.Lock()
			at := time.Now()
			if free.After(at) {
				at = free
			}
			free = at.Add(interval / time.Duration(n))
			mu.Unlock()
			select {
			case <-time.After(time.Until(at)):
				return next(ctx, d)
			case <-consumer.Draining(ctx):
				return consumer.Requeue(0) // the process shuts down: leave the message to another one
			}
		}
	}
}

func TestRecipeRateLimit(t *testing.T) {
	conn, p := start(t, topology.Topology{Queues: []topology.Queue{{Name: "mails"}}})
	for range 5 {
		if err := p.Publish(t.Context(), "", "mails", amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
	}
	var began []time.Time
	cfg := consumer.Config{Queue: "mails", Middleware: []consumer.Middleware{limited(10, time.Second)}}
	consume(t, conn, cfg, 5, func(context.Context, *consumer.Delivery) error {
		began = append(began, time.Now())
		return nil
	})
	if took := began[4].Sub(began[0]); took < 390*time.Millisecond {
		t.Errorf("five handlers began within %v, want at least 400ms", took)
	}
}

func serve(conn *amqpkit.Conn, handler consumer.Handler) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	c, err := consumer.New(conn, consumer.Config{Queue: "orders", DrainTimeout: 20 * time.Second}, handler)
	if err != nil {
		return err
	}
	err = c.Run(ctx) // returns after SIGTERM, when the handlers have finished

	late, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if closeErr := p.Close(late); err == nil {
		err = closeErr
	}
	if closeErr := conn.Close(late); err == nil {
		err = closeErr
	}
	return err
}

func logged(url string) (*amqpkit.Conn, error) {
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("service", "billing")
	return amqpkit.Open(amqpkit.Config{URLs: []string{url}, Name: "billing", Logger: logger})
}

func hosts(ctx context.Context) (orders, audit *amqpkit.Conn, err error) {
	if orders, err = amqpkit.Dial(ctx, "amqps://billing:secret@rabbit/orders"); err != nil {
		return nil, nil, err
	}
	if audit, err = amqpkit.Dial(ctx, "amqps://billing:secret@rabbit/audit"); err != nil {
		return nil, nil, err
	}
	return orders, audit, nil
}

func stream() (topology.Topology, consumer.Config) {
	events := topology.Topology{Queues: []topology.Queue{{
		Name: "events", Type: topology.Stream, MaxAge: 7 * 24 * time.Hour,
	}}}
	cfg := consumer.Config{
		Queue:     "events",
		Arguments: amqp.Table{"x-stream-offset": "first"}, // or "last", "next", an offset, a time.Time, "1h"
	}
	return events, cfg
}

func celery() topology.Topology {
	return topology.Topology{
		Exchanges: []topology.Exchange{{Name: "celery", Type: topology.Direct}},
		Queues:    []topology.Queue{{Name: "celery", Type: topology.Classic}},
		Bindings:  []topology.Binding{{Source: "celery", Queue: "celery", Key: "celery"}},
	}
}

// A task is a delivery with a place for its result.
type task struct {
	*consumer.Delivery
	done chan<- error
}

func bridge(tasks chan<- task) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		done := make(chan error, 1)
		select {
		case tasks <- task{d, done}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case err := <-done: // nil acknowledges the message
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func TestRecipeBridge(t *testing.T) {
	conn, p := start(t, topology.Topology{Queues: []topology.Queue{{Name: "orders"}}})
	tasks := make(chan task)
	finished := make(chan string, 1)
	go func() {
		d := <-tasks
		finished <- string(d.Body)
		d.done <- nil
	}()
	if err := p.Publish(t.Context(), "", "orders", amqp.Publishing{Body: []byte("book")}); err != nil {
		t.Fatal(err)
	}
	consume(t, conn, consumer.Config{Queue: "orders"}, 1, bridge(tasks))
	if got := <-finished; got != "book" {
		t.Errorf("received %q", got)
	}
}

// start returns a connection to a broker in the test process, and a producer.
func start(t *testing.T, declared topology.Topology) (*amqpkit.Conn, *producer.Producer) {
	t.Helper()
	broker := amqptest.Start(t)
	conn, err := amqpkit.DialConfig(t.Context(), amqpkit.Config{URLs: []string{broker.URL()}, Setup: declared.Declare})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return conn, p
}

// consume runs a handler until it has returned n times.
func consume(t *testing.T, conn *amqpkit.Conn, cfg consumer.Config, n int, h consumer.Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := consumer.New(conn, cfg, func(ctx context.Context, d *consumer.Delivery) error {
		err := h(ctx, d)
		if n--; n == 0 {
			cancel()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(ctx); err != nil {
		t.Error(err)
	}
}

// These recipes have no test of their own; the compiler checks them.
var _ = []any{once, serve, logged, hosts, stream, celery}
