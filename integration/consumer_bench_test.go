package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// consumerPatience bounds every wait of the consumer tests: none should come near it.
const consumerPatience = 30 * time.Second

// A consumerBench is a Conn to consume on, whose links can be cut, and a plain channel of
// amqp091-go to prepare and look at queues.
type consumerBench struct {
	t      *testing.T
	broker *rabbit.Broker
	conn   *amqpkit.Conn
	plain  *amqp.Channel

	mu    sync.Mutex
	links []net.Conn // every link dialled, the current one last
}

// newConsumerBench connects the Conn to the shared broker.
func newConsumerBench(t *testing.T) *consumerBench {
	t.Helper()
	return newConsumerBenchThrough(t, broker(t).URL())
}

// newConsumerBenchThrough connects the Conn, and it alone, through a proxy.
func newConsumerBenchThrough(t *testing.T, url string) *consumerBench {
	t.Helper()
	return newConsumerBenchWith(t, amqpkit.Config{URLs: []string{url}})
}

// newConsumerBenchWith makes the Conn with cfg.
func newConsumerBenchWith(t *testing.T, cfg amqpkit.Config) *consumerBench {
	t.Helper()
	b := &consumerBench{t: t, broker: broker(t)}
	if cfg.URLs == nil {
		cfg.URLs = []string{b.broker.URL()}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Name = t.Name()
	cfg.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			b.mu.Lock()
			b.links = append(b.links, nc)
			b.mu.Unlock()
		}
		return nc, err
	}
	var err error
	if b.conn, err = amqpkit.DialConfig(b.ctx(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), consumerPatience)
		defer cancel()
		if err := b.conn.Close(ctx); err != nil {
			t.Errorf("Conn.Close = %v", err)
		}
	})
	ac, err := amqp.Dial(b.broker.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.Close() })
	if b.plain, err = ac.Channel(); err != nil {
		t.Fatal(err)
	}
	if err := b.plain.Confirm(false); err != nil {
		t.Fatal(err)
	}
	return b
}

// ctx ends with the test, or when patience does.
func (b *consumerBench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.t.Context(), consumerPatience)
	b.t.Cleanup(cancel)
	return ctx
}

// dialled returns how many links there have been.
func (b *consumerBench) dialled() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.links)
}

// cut breaks every link as a dying network would: no frame tells either side.
func (b *consumerBench) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, nc := range b.links {
		_ = nc.Close()
	}
}

// name returns a unique queue name and deletes such a queue at the end of the test.
func (b *consumerBench) name() string {
	name := "consumer-" + rand.Text()
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), consumerPatience)
		defer cancel()
		if err := b.broker.DeleteQueue(ctx, name); err != nil {
			b.t.Errorf("delete queue: %v", err)
		}
	})
	return name
}

// declare declares a durable queue of a type.
func (b *consumerBench) declare(name, kind string, args amqp.Table) {
	b.t.Helper()
	all := amqp.Table{"x-queue-type": kind}
	for k, v := range args {
		all[k] = v
	}
	if _, err := b.plain.QueueDeclare(name, true, false, false, false, all); err != nil {
		b.t.Fatal(err)
	}
}

// queue declares a quorum queue.
func (b *consumerBench) queue(args amqp.Table) string {
	b.t.Helper()
	name := b.name()
	b.declare(name, "quorum", args)
	return name
}

// publish returns when the queue holds a message for each body, which is its message id too.
func (b *consumerBench) publish(queue string, bodies ...string) {
	b.t.Helper()
	var pending []*amqp.DeferredConfirmation
	for _, body := range bodies {
		c, err := b.plain.PublishWithDeferredConfirm("", queue, true, false,
			amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: body, Body: []byte(body)})
		if err != nil {
			b.t.Fatal(err)
		}
		pending = append(pending, c)
	}
	for _, c := range pending {
		if ok, err := c.WaitContext(b.ctx()); !ok {
			b.t.Fatalf("publish: confirmed %v, %v", ok, err)
		}
	}
}

// expectLeft waits until nothing is delivered and unsettled any more, and expects n messages
// in the queue.
func (b *consumerBench) expectLeft(queue string, n int) {
	b.t.Helper()
	var last rabbit.Counts
	err := b.broker.AwaitQueue(b.ctx(), queue, func(c rabbit.Counts) bool {
		last = c
		return c.Unacked == 0
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if last.Ready != n {
		b.t.Errorf("%d messages in the queue, want %d", last.Ready, n)
	}
}

// take gets one message off the queue, waiting for it.
func (b *consumerBench) take(queue string) amqp.Delivery {
	b.t.Helper()
	for b.ctx().Err() == nil {
		d, ok, err := b.plain.Get(queue, true)
		if err != nil {
			b.t.Fatal(err)
		}
		if ok {
			return d
		}
	}
	b.t.Fatalf("no message in %s", queue)
	return amqp.Delivery{}
}

// A running is a Consumer whose Run was started.
type running struct {
	*consumer.Consumer
	t    *testing.T
	end  context.CancelFunc
	done chan error
}

// start runs a consumer and returns when it is subscribed. It ends with the test.
func (b *consumerBench) start(cfg consumer.Config, h consumer.Handler) *running {
	b.t.Helper()
	r := b.begin(cfg, h)
	if err := r.Ready(b.ctx()); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// begin runs a consumer and does not wait until it is subscribed. It ends with the test.
func (b *consumerBench) begin(cfg consumer.Config, h consumer.Handler) *running {
	b.t.Helper()
	return b.beginOver(b.conn, cfg, h)
}

// beginOver runs a consumer on another connection than the Conn.
func (b *consumerBench) beginOver(conn consumer.Connection, cfg consumer.Config, h consumer.Handler) *running {
	b.t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := consumer.New(conn, cfg, h)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.WithValue(b.t.Context(), benchKey{}, b.t.Name()))
	r := &running{Consumer: c, t: b.t, end: end, done: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- c.Run(ctx)
	}()
	b.t.Cleanup(func() { end(); <-ended })
	return r
}

// benchKey is the key of the test's name in Run's ctx.
type benchKey struct{}

// stop ends Run's ctx and returns what Run returned.
func (r *running) stop() error {
	r.t.Helper()
	r.end()
	return receive(r.t, r.done, "Run's return")
}

// stopClean ends Run's ctx and expects Run to return nil.
func (r *running) stopClean() {
	r.t.Helper()
	if err := r.stop(); err != nil {
		r.t.Errorf("Run = %v, want nil", err)
	}
}

// receive returns the next value of c and fails the test if none comes.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	patience := time.NewTimer(consumerPatience)
	defer patience.Stop()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatalf("%s: channel closed", what)
		}
		return v
	case <-patience.C:
		t.Fatalf("no %s within %v", what, consumerPatience)
	}
	panic("unreachable")
}

// numbers returns "0" to "n-1".
func numbers(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprint(i)
	}
	return s
}

// A logbook is a slog destination to look at.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// logger returns a logger that writes into the logbook.
func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// count returns how often the logbook contains a text.
func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(text))
}

// cutOne breaks one connection of the Conn.
func (b *consumerBench) cutOne(ac *amqp.Connection) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, nc := range b.links {
		if nc.LocalAddr().String() == ac.LocalAddr().String() {
			_ = nc.Close()
			return
		}
	}
	b.t.Fatal("no such connection")
}
