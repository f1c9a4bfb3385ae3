package kit

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
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// ConsumerTimeout bounds every wait of the consumer tests. No wait normally comes close to it.
const ConsumerTimeout = 30 * time.Second

// A ConsumerBench has a Conn for consuming, whose links can be cut, and a plain channel of amqp091-go for setting up and
// inspecting queues.
type ConsumerBench struct {
	T      *testing.T
	Broker *rabbit.Broker
	Conn   *amqpkit.Conn
	Plain  *amqp.Channel

	mu    sync.Mutex
	links []net.Conn // all dialled links; the current one is the last
}

// NewConsumerBench connects the Conn to the shared broker.
func NewConsumerBench(t *testing.T) *ConsumerBench {
	t.Helper()
	return NewConsumerBenchThrough(t, Broker(t).URL())
}

// NewConsumerBenchThrough connects the Conn to url, usually a proxy. The plain channel is connected directly to the broker.
func NewConsumerBenchThrough(t *testing.T, url string) *ConsumerBench {
	t.Helper()
	return NewConsumerBenchWith(t, amqpkit.Config{URLs: []string{url}})
}

// NewConsumerBenchWith connects a Conn with cfg.
func NewConsumerBenchWith(t *testing.T, cfg amqpkit.Config) *ConsumerBench {
	t.Helper()
	b := &ConsumerBench{T: t, Broker: Broker(t)}
	if cfg.URLs == nil {
		cfg.URLs = []string{b.Broker.URL()}
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
	if b.Conn, err = amqpkit.DialConfig(b.Ctx(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), ConsumerTimeout)
		defer cancel()
		if err := b.Conn.Close(ctx); err != nil {
			t.Errorf("Conn.Close = %v", err)
		}
	})
	ac, err := amqp.Dial(b.Broker.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.Close() })
	if b.Plain, err = ac.Channel(); err != nil {
		t.Fatal(err)
	}
	if err := b.Plain.Confirm(false); err != nil {
		t.Fatal(err)
	}
	return b
}

// Ctx returns a context that ends with the test, or after ConsumerTimeout.
func (b *ConsumerBench) Ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.T.Context(), ConsumerTimeout)
	b.T.Cleanup(cancel)
	return ctx
}

// Dialled returns the number of links dialled so far.
func (b *ConsumerBench) Dialled() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.links)
}

// Cut closes every link without an AMQP frame, as a network failure does.
func (b *ConsumerBench) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, nc := range b.links {
		_ = nc.Close()
	}
}

// Name returns a unique queue name. The queue with that name is deleted at the end of the test.
func (b *ConsumerBench) Name() string {
	name := "consumer-" + rand.Text()
	b.T.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), ConsumerTimeout)
		defer cancel()
		if err := b.Broker.DeleteQueue(ctx, name); err != nil {
			b.T.Errorf("delete queue: %v", err)
		}
	})
	return name
}

// Declare declares a durable queue of a type.
func (b *ConsumerBench) Declare(name, kind string, args amqp.Table) {
	b.T.Helper()
	all := amqp.Table{"x-queue-type": kind}
	for k, v := range args {
		all[k] = v
	}
	if _, err := b.Plain.QueueDeclare(name, true, false, false, false, all); err != nil {
		b.T.Fatal(err)
	}
}

// Queue declares a quorum queue.
func (b *ConsumerBench) Queue(args amqp.Table) string {
	b.T.Helper()
	name := b.Name()
	b.Declare(name, "quorum", args)
	return name
}

// Publish publishes a message for each body and waits for the confirms. The body is also the message id.
func (b *ConsumerBench) Publish(queue string, bodies ...string) {
	b.T.Helper()
	var pending []*amqp.DeferredConfirmation
	for _, body := range bodies {
		c, err := b.Plain.PublishWithDeferredConfirm("", queue, true, false,
			amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: body, Body: []byte(body)})
		if err != nil {
			b.T.Fatal(err)
		}
		pending = append(pending, c)
	}
	for _, c := range pending {
		if ok, err := c.WaitContext(b.Ctx()); !ok {
			b.T.Fatalf("publish: confirmed %v, %v", ok, err)
		}
	}
}

// ExpectLeft waits until no delivery is unsettled, and then expects n messages in the queue.
func (b *ConsumerBench) ExpectLeft(queue string, n int) {
	b.T.Helper()
	var last rabbit.Counts
	err := b.Broker.AwaitQueue(b.Ctx(), queue, func(c rabbit.Counts) bool {
		last = c
		return c.Unacked == 0
	})
	if err != nil {
		b.T.Fatal(err)
	}
	if last.Ready != n {
		b.T.Errorf("%d messages in the queue, want %d", last.Ready, n)
	}
}

// Take waits for a message in the queue and removes it.
func (b *ConsumerBench) Take(queue string) amqp.Delivery {
	b.T.Helper()
	for b.Ctx().Err() == nil {
		d, ok, err := b.Plain.Get(queue, true)
		if err != nil {
			b.T.Fatal(err)
		}
		if ok {
			return d
		}
	}
	b.T.Fatalf("no message in %s", queue)
	return amqp.Delivery{}
}

// A Running is a Consumer with a running Run.
type Running struct {
	*consumer.Consumer
	t    *testing.T
	End  context.CancelFunc
	Done chan error
}

// Start runs a consumer until the end of the test, and waits until it is subscribed.
func (b *ConsumerBench) Start(cfg consumer.Config, h consumer.Handler) *Running {
	b.T.Helper()
	r := b.Begin(cfg, h)
	if err := r.Ready(b.Ctx()); err != nil {
		b.T.Fatal(err)
	}
	return r
}

// Begin runs a consumer until the end of the test, and does not wait until it is subscribed.
func (b *ConsumerBench) Begin(cfg consumer.Config, h consumer.Handler) *Running {
	b.T.Helper()
	return b.BeginOver(b.Conn, cfg, h)
}

// BeginOver is Begin on another connection.
func (b *ConsumerBench) BeginOver(conn consumer.Connection, cfg consumer.Config, h consumer.Handler) *Running {
	b.T.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := consumer.New(conn, cfg, h)
	if err != nil {
		b.T.Fatal(err)
	}
	ctx, end := context.WithCancel(context.WithValue(b.T.Context(), BenchKey{}, b.T.Name()))
	r := &Running{Consumer: c, t: b.T, End: end, Done: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Done <- c.Run(ctx)
	}()
	b.T.Cleanup(func() { end(); <-ended })
	return r
}

// BenchKey is the context key of the test's name in Run's ctx.
type BenchKey struct{}

// Stop cancels Run's ctx and returns the error of Run.
func (r *Running) Stop() error {
	r.t.Helper()
	r.End()
	return Receive(r.t, r.Done, "result of Run")
}

// StopClean cancels Run's ctx and expects Run to return nil.
func (r *Running) StopClean() {
	r.t.Helper()
	if err := r.Stop(); err != nil {
		r.t.Errorf("Run = %v, want nil", err)
	}
}

// Receive returns the next value of c. It fails the test if c is closed or has no value within ConsumerTimeout.
func Receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	timeout := time.NewTimer(ConsumerTimeout)
	defer timeout.Stop()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatalf("%s: channel closed", what)
		}
		return v
	case <-timeout.C:
		t.Fatalf("no %s within %v", what, ConsumerTimeout)
	}
	panic("unreachable")
}

// Numbers returns "0" to "n-1".
func Numbers(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprint(i)
	}
	return s
}

// A Logbook stores log lines for inspection.
type Logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// Logger returns a logger that writes into the logbook.
func (l *Logbook) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *Logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Count returns the number of occurrences of a text.
func (l *Logbook) Count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(text))
}

// CutOne breaks one connection of the Conn.
func (b *ConsumerBench) CutOne(ac *amqp.Connection) {
	b.T.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, nc := range b.links {
		if nc.LocalAddr().String() == ac.LocalAddr().String() {
			_ = nc.Close()
			return
		}
	}
	b.T.Fatal("no such connection")
}

// NestedHeaders returns headers that a broker confirms and amqp091-go cannot read.
func NestedHeaders() amqp.Table {
	t := amqp.Table{}
	for range 40 {
		t = amqp.Table{"t": t}
	}
	return t
}

// ManyHeaders returns headers that amqp091-go can send but not read.
func ManyHeaders() amqp.Table {
	t := amqp.Table{}
	for i := range 8300 {
		t[fmt.Sprint(i)] = nil
	}
	return t
}

// A WireLog records the events of a proxy.
type WireLog struct {
	mu     sync.Mutex
	events []amqptest.Event
}

// Observe starts to record the events of a proxy.
func Observe(p *amqptest.Proxy) *WireLog {
	w := &WireLog{}
	p.Observe(func(e amqptest.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	})
	return w
}

// Of returns all recorded events of a kind.
func (w *WireLog) Of(k amqptest.Kind) []amqptest.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []amqptest.Event
	for _, e := range w.events {
		if e.Kind == k {
			all = append(all, e)
		}
	}
	return all
}

// ExpectTrueSettlements fails the test if a delivery was settled twice or on another channel than its own, or if the broker
// closed a channel.
func (w *WireLog) ExpectTrueSettlements(t *testing.T) {
	t.Helper()
	for _, k := range []amqptest.Kind{amqptest.Acked, amqptest.Rejected, amqptest.DeliveryNacked} {
		for _, e := range w.Of(k) {
			if e.UnknownTag {
				t.Errorf("%v of tag %d on link %d, channel %d: no such delivery was unsettled", e.Kind, e.Tag, e.Link, e.Channel)
			}
		}
	}
	for _, e := range w.Of(amqptest.ChannelClosed) {
		if e.From == amqptest.FromBroker {
			t.Errorf("RabbitMQ closed channel %d: %d %s", e.Channel, e.Code, e.Text)
		}
	}
}

// Work blocks for d.
func Work(d time.Duration) { <-time.After(d) }

// Bodies returns a handler that sends the body of each message to got.
func Bodies(got chan string) consumer.Handler {
	return func(_ context.Context, d *consumer.Delivery) error { got <- string(d.Body); return nil }
}
