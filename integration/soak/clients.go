package soak

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/producer"
)

// Settings of the clients. Timeouts are shorter than the defaults, so that they take effect in a run of one minute.
const (
	heartbeat      = time.Second
	dialTimeout    = 2 * time.Second
	setupTimeout   = 5 * time.Second
	backoffCap     = 800 * time.Millisecond // the maximum of amqpkit's reconnect backoff
	confirmTimeout = 15 * time.Second
	maxInFlight    = 256
	closeTimeout   = 5 * time.Second
	drainTime      = 2 * time.Second
	visitTime      = time.Second
)

// A workload is the set of clients, publishers and workers that use the toolkit.
type workload struct {
	h              *History
	q              *queues
	urls           []string // URLs of the proxies
	seed           uint64
	rate           int           // target rate of all publishers together, in messages per second
	publishTimeout time.Duration // timeout of most publishes
	logger         *slog.Logger

	confirmed atomic.Int64 // confirmed messages so far

	publishing context.Context // done when publishers must stop
	failing    context.Context // done when handlers must no longer fail

	publishers sync.WaitGroup
	conns      map[string]*amqpkit.Conn
	producers  []*producer.Producer
	movers     map[string]*producer.Producer // by client: producers that move failed messages
	workers    []*worker
}

func newConfig(w *workload, name string) amqpkit.Config {
	return amqpkit.Config{
		URLs: w.urls, Name: name, Heartbeat: heartbeat, DialTimeout: dialTimeout, Logger: w.logger,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &socket{Conn: c, h: w.h}, nil
		},
	}
}

// A socket records when its client closes it. A proxy that blocks all traffic cannot see that.
type socket struct {
	net.Conn
	h    *History
	once sync.Once
}

func (s *socket) Close() error {
	s.once.Do(func() { s.h.Put(Record{Closed: &Closed{Addr: s.LocalAddr().String()}}) })
	return s.Conn.Close()
}

// connect opens the permanent clients and waits until they are ready.
func (w *workload) connect(ctx context.Context) error {
	w.conns = map[string]*amqpkit.Conn{}
	for _, name := range clients {
		cfg := newConfig(w, name)
		cfg.Setup, cfg.SetupTimeout = w.q.topology().Declare, setupTimeout
		conn, err := amqpkit.DialConfig(ctx, cfg)
		if err != nil {
			return err
		}
		w.conns[name] = conn
	}
	w.movers = map[string]*producer.Producer{}
	for _, name := range []string{alice, bob} {
		var err error
		if w.movers[name], err = w.newProducer(name, producer.Config{}); err != nil {
			return err
		}
	}
	return nil
}

// newProducer returns a producer of a client. close closes it.
func (w *workload) newProducer(client string, cfg producer.Config) (*producer.Producer, error) {
	cfg.MaxInFlight, cfg.ConfirmTimeout, cfg.Logger = maxInFlight, confirmTimeout, w.logger
	p, err := producer.New(w.conns[client], cfg)
	if err == nil {
		w.producers = append(w.producers, p)
	}
	return p, err
}

// close closes producers and connections after their last use.
func (w *workload) close() {
	for _, p := range w.producers {
		w.bounded("close of a producer", "", closeTimeout, p.Close)
	}
	for name, conn := range w.conns {
		w.bounded("close of a connection", name, closeTimeout, conn.Close)
	}
}

// bounded makes a call with a timeout and records when it returned.
func (w *workload) bounded(what, client string, limit time.Duration, call func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	w.call(ctx, what, client, call)
}

// callGrace is how long a call may outlive its ctx before it is abandoned.
const callGrace = 30 * time.Second

// call makes a call that must return with ctx, and records when it returned.
func (w *workload) call(ctx context.Context, what, client string, call func(context.Context) error) {
	deadline, _ := ctx.Deadline()
	c := Call{What: what, Who: client, Began: w.h.Now(), Deadline: w.h.At(deadline)}
	result := make(chan error, 1)
	if within(time.Until(deadline)+callGrace, func() { result <- call(ctx) }) {
		if err := <-result; err != nil {
			c.Err = err.Error()
		}
	} else {
		c.Err = "did not return"
	}
	w.h.Put(Record{Call: &c})
}

// visit opens a connection, publishes a few messages, and closes producer and connection by the same deadline, even if
// messages are unconfirmed or the broker is unavailable.
func (w *workload) visit(p *publisher) error {
	ctx, cancel := context.WithTimeout(context.Background(), visitTime)
	defer cancel()
	conn, err := amqpkit.Open(newConfig(w, visitor))
	if err != nil {
		return err
	}
	if p.to, err = producer.New(conn, producer.Config{Logger: w.logger, MaxInFlight: maxInFlight}); err != nil {
		return err
	}
	for range 5 {
		p.publishAsync(ctx, p.message(ctx, toWork), func() {})
	}
	w.call(ctx, "close of a producer", visitor, p.to.Close)
	w.call(ctx, "close of a connection", visitor, conn.Close)
	return nil
}
