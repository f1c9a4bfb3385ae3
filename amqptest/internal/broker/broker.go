package broker

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is what amqptest.Config says, with its defaults filled in.
type Config struct {
	Addr            string
	InMemory        bool
	Users           map[string]string
	Login           func(user, secret string) (expires time.Time, ok bool)
	VHosts          []string
	ManualClock     bool
	Heartbeat       time.Duration
	ChannelMax      int
	FrameMax        int
	MaxMessageSize  int
	ConsumerTimeout time.Duration
	PublishedLimit  int
}

// ErrClosed reports that the broker is closed, or stopped.
var ErrClosed = errors.New("amqptest: the broker does not listen")

// A Broker serves the connections that come by TCP or Dial.
type Broker struct {
	cfg Config
	wg  sync.WaitGroup // all goroutines
	// turn is held by Start and the ways to end, one at a time. As a channel it is known to testing/synctest.
	turn chan struct{}

	mu       sync.Mutex // guards all that follows, and all state of connections, channels, queues and exchanges
	listener net.Listener
	addr     string
	running  bool
	closed   bool
	conns    map[*conn]struct{}
	vhosts   map[string]*vhost
	clock    clock
	now      time.Time // of the clock, while an update lasts
	dirty    []*queue  // to be served at the end of the update
	woken    []*conn   // whose writers have work
	// confirming are the channels with confirms to send.
	confirming []*channel
	watch      chan struct{}
	seq        uint64 // the last number given to an entry, or used in a name
	faults     faults
	log        []*message
	logBytes   int
	replies    map[string]*replyTo
}

// A vhost has exchanges and queues of its own.
type vhost struct {
	name      string
	exchanges map[string]*exchange
	queues    map[string]*queue
	waiting   map[*queue]struct{} // those with messages that they could not dead-letter
}

// New starts a broker.
func New(cfg Config) (*Broker, error) {
	b := &Broker{
		cfg: cfg, turn: make(chan struct{}, 1),
		conns: make(map[*conn]struct{}), vhosts: make(map[string]*vhost), replies: make(map[string]*replyTo),
	}
	b.clock.init(cfg.ManualClock, b.tick)
	for _, name := range cfg.VHosts {
		b.vhosts[name] = newVHost(name)
	}
	b.addr = cfg.Addr
	return b, b.Start()
}

// Start listens, again on the same address after Stop.
func (b *Broker) Start() error {
	defer b.takeTurn()()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	if b.running {
		return nil
	}
	if !b.cfg.InMemory {
		l, err := net.Listen("tcp", b.addr)
		if err != nil {
			return fmt.Errorf("amqptest: %w", err)
		}
		b.listener, b.addr = l, l.Addr().String()
		b.wg.Go(func() { b.accept(l) })
	}
	b.running = true
	return nil
}

// Stop ends as a RabbitMQ that is shut down does: clients are told, and only what is durable stays.
func (b *Broker) Stop() {
	b.halt(false, &exception{code: connectionForced, text: "broker forced connection closure with reason 'shutdown'"})
}

// Kill ends as a RabbitMQ that loses its power does: its connections are reset.
func (b *Broker) Kill() { b.halt(false, nil) }

// Close ends all connections and returns when all goroutines have ended.
func (b *Broker) Close() { b.halt(true, nil) }

func (b *Broker) halt(forGood bool, tell *exception) {
	defer b.takeTurn()()
	b.update(func() {
		b.running, b.closed = false, b.closed || forGood
		if b.listener != nil {
			_ = b.listener.Close()
			b.listener = nil
		}
		for c := range b.conns {
			if tell == nil {
				c.reset()
			} else {
				c.fail(0, 0, tell)
				c.cutSoon()
			}
		}
	})
	b.wg.Wait()
	b.update(func() {
		b.faults = faults{}
		for _, v := range b.vhosts {
			b.restart(v)
		}
	})
	if forGood {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.clock.stop()
	}
}

// takeTurn waits for the broker to be neither starting nor ending, and returns what lets the next one have it.
func (b *Broker) takeTurn() (done func()) {
	b.turn <- struct{}{}
	return func() { <-b.turn }
}

// restart keeps what RabbitMQ finds again when it starts.
func (b *Broker) restart(v *vhost) {
	for _, q := range v.queues {
		if !q.durable || q.owner != nil {
			b.removeQueue(q)
			continue
		}
		q.restart()
	}
	for _, x := range v.exchanges {
		if !x.durable {
			b.removeExchange(v, x)
		}
	}
}

func (b *Broker) accept(l net.Listener) {
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files, which may pass
			time.Sleep(10 * time.Millisecond)
			continue
		}
		b.serve(nc)
	}
}

// serve starts a connection, or cuts it if the broker does not run.
func (b *Broker) serve(nc net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.running {
		reset(nc)
		return false
	}
	c := newConn(b, nc)
	b.conns[c] = struct{}{}
	b.wg.Go(c.write)
	b.wg.Go(c.run)
	return true
}

// Dial connects in memory.
func (b *Broker) Dial() (net.Conn, error) {
	client, server := pipe()
	if !b.serve(server) {
		return nil, ErrClosed
	}
	return client, nil
}

// Addr is where the broker listens, or listened.
func (b *Broker) Addr() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addr
}

// update changes what b.mu guards, and does what follows from it.
func (b *Broker) update(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin()
	change()
	b.settle()
}

// begin is called with b.mu held, before anything is changed.
func (b *Broker) begin() { b.now = b.clock.now() }

// settle delivers and expires what can be, and wakes the writers.
func (b *Broker) settle() {
	for len(b.dirty) > 0 {
		q := b.dirty[0]
		b.dirty = b.dirty[1:]
		q.dirty = false
		q.serve()
	}
	b.dirty = b.dirty[:0]
	b.sendAllConfirms()
	for _, c := range b.woken {
		c.wake()
	}
	b.woken = b.woken[:0]
	b.clock.arm()
	if b.watch != nil {
		close(b.watch)
		b.watch = nil
	}
}

// tick runs what has become due.
func (b *Broker) tick() {
	b.update(func() {
		if !b.closed {
			b.clock.run(b.now)
		}
	})
}

// next gives a number that grows.
func (b *Broker) next() uint64 {
	b.seq++
	return b.seq
}

func newVHost(name string) *vhost {
	v := &vhost{
		name: name, exchanges: make(map[string]*exchange), queues: make(map[string]*queue), waiting: make(map[*queue]struct{}),
	}
	for _, x := range []struct{ name, kind string }{
		{"", kindDirect},
		{"amq.direct", kindDirect},
		{"amq.fanout", kindFanout},
		{"amq.topic", kindTopic},
		{"amq.headers", kindHeaders},
		{"amq.match", kindHeaders},
		{"amq.rabbitmq.log", kindTopic},
		{"amq.rabbitmq.trace", kindTopic},
	} {
		v.exchanges[x.name] = &exchange{name: x.name, kind: x.kind, durable: true, internal: strings.HasPrefix(x.name, "amq.rabbitmq.")}
	}
	return v
}

// sortedQueues lists queues in the order of their names.
func (v *vhost) sortedQueues() []*queue { return sortedByName(maps.Values(v.queues)) }

func sortedByName(queues iter.Seq[*queue]) []*queue {
	return slices.SortedFunc(queues, func(a, b *queue) int { return strings.Compare(a.name, b.name) })
}
