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

// The settings of the clients: shorter than the defaults, so that a run of a minute sees all that depends on them.
const (
	heartbeat      = time.Second
	dialTimeout    = 2 * time.Second
	setupTimeout   = 5 * time.Second
	backoffCap     = 800 * time.Millisecond // amqpkit's own
	confirmTimeout = 15 * time.Second
	maxInFlight    = 256
	closeTimeout   = 5 * time.Second
	drainTime      = 2 * time.Second
	visitTime      = time.Second
)

// A workload is everything that uses the toolkit.
type workload struct {
	h              *History
	q              *queues
	urls           []string // of the proxies
	seed           uint64
	rate           int           // messages a second to aim at, of all publishers together
	publishTimeout time.Duration // of publishers, mostly
	logger         *slog.Logger

	confirmed atomic.Int64 // so far

	publishing context.Context // ends when nothing more is to be published
	failing    context.Context // ends when handlers are to succeed

	publishers sync.WaitGroup
	conns      map[string]*amqpkit.Conn
	producers  []*producer.Producer
	movers     map[string]*producer.Producer // by client: they take failed messages to their wait and parking queues
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

// A socket tells when its client closed it, which a proxy cannot see while it lets nothing through.
type socket struct {
	net.Conn
	h    *History
	once sync.Once
}

func (s *socket) Close() error {
	s.once.Do(func() { s.h.Put(Record{Closed: &Closed{Addr: s.LocalAddr().String()}}) })
	return s.Conn.Close()
}

// connect opens the clients, and returns when they are ready.
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

// newProducer returns a producer of a client, to be closed in the end.
func (w *workload) newProducer(client string, cfg producer.Config) (*producer.Producer, error) {
	cfg.MaxInFlight, cfg.ConfirmTimeout, cfg.Logger = maxInFlight, confirmTimeout, w.logger
	p, err := producer.New(w.conns[client], cfg)
	if err == nil {
		w.producers = append(w.producers, p)
	}
	return p, err
}

// close ends producers and connections, which nobody uses any more.
func (w *workload) close() {
	for _, p := range w.producers {
		w.bounded("close of a producer", "", closeTimeout, p.Close)
	}
	for name, conn := range w.conns {
		w.bounded("close of a connection", name, closeTimeout, conn.Close)
	}
}

// bounded makes a call that is to return with its ctx, and writes down when it did.
func (w *workload) bounded(what, client string, limit time.Duration, call func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	w.call(ctx, what, client, call)
}

// neverTime is how long after its time a call is waited for.
const callGrace = 30 * time.Second

// call is bounded, with a ctx that there is.
func (w *workload) call(ctx context.Context, what, client string, call func(context.Context) error) {
	deadline, _ := ctx.Deadline()
	c := Call{What: what, Who: client, Began: w.h.Now(), Deadline: w.h.At(deadline)}
	result := make(chan error, 1)
	if within(time.Until(deadline)+callGrace, func() { result <- call(ctx) }) {
		if err := <-result; err != nil {
			c.Err = err.Error()
		}
	} else {
		c.Err = "it has not returned"
	}
	w.h.Put(Record{Call: &c})
}

// visit opens a connection, publishes a little, and closes everything by the same time, whatever is in flight and
// whatever the broker does meanwhile.
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
