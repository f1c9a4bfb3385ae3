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

// Config is amqptest.Config with its defaults applied.
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

// ErrClosed reports that the broker is stopped or closed.
var ErrClosed = errors.New("amqptest: broker is stopped or closed")

// A Broker serves connections over TCP and Dial.
type Broker struct {
	cfg Config
	wg  sync.WaitGroup // all goroutines
	// lifecycle serializes Start, Stop, Kill and Close. It is a channel because testing/synctest recognizes waiting for
	// a channel.
	lifecycle chan struct{}

	mu       sync.Mutex // guards the fields below and the state of all connections, channels, queues and exchanges
	listener net.Listener
	addr     string
	running  bool
	closed   bool
	conns    map[*conn]struct{}
	vhosts   map[string]*vhost
	clock    clock
	now      time.Time // the clock's time during an update
	dirty    []*queue  // to be served at the end of the update
	woken    []*conn   // connections whose writers have work
	// confirming are the channels with unsent confirms.
	confirming []*channel
	watch      chan struct{}
	seq        uint64 // the last sequence number used for entries and names
	faults     faults
	log        []*message
	logBytes   int
	replies    map[string]*replyTo
}

// A vhost is a namespace of exchanges and queues.
type vhost struct {
	name        string
	exchanges   map[string]*exchange
	queues      map[string]*queue
	undelivered map[*queue]struct{} // queues with messages that could not be dead-lettered
}

// New returns a started broker.
func New(cfg Config) (*Broker, error) {
	b := &Broker{
		cfg: cfg, lifecycle: make(chan struct{}, 1),
		conns: make(map[*conn]struct{}), vhosts: make(map[string]*vhost), replies: make(map[string]*replyTo),
	}
	b.clock.init(cfg.ManualClock, b.tick)
	for _, name := range cfg.VHosts {
		b.vhosts[name] = newVHost(name)
	}
	b.addr = cfg.Addr
	return b, b.Start()
}

// Start listens. After Stop or Kill it uses the same address.
func (b *Broker) Start() error {
	defer b.lockLifecycle()()
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

// Stop shuts down like RabbitMQ: it sends connection.close and keeps only durable state.
func (b *Broker) Stop() {
	b.halt(false, &exception{code: connectionForced, text: "broker forced connection closure with reason 'shutdown'"})
}

// Kill resets all connections and keeps only durable state, like a power failure.
func (b *Broker) Kill() { b.halt(false, nil) }

// Close resets all connections and waits for all goroutines.
func (b *Broker) Close() { b.halt(true, nil) }

func (b *Broker) halt(forGood bool, tell *exception) {
	defer b.lockLifecycle()()
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

// lockLifecycle waits until no other Start, Stop, Kill or Close runs. It returns the function that unlocks.
func (b *Broker) lockLifecycle() (done func()) {
	b.lifecycle <- struct{}{}
	return func() { <-b.lifecycle }
}

// restart keeps the state that RabbitMQ recovers.
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
		if err != nil { // for example too many open files, which may be temporary
			time.Sleep(10 * time.Millisecond)
			continue
		}
		b.serve(nc)
	}
}

// serve starts a connection. It resets the connection if the broker is stopped.
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

// Dial opens a connection in memory.
func (b *Broker) Dial() (net.Conn, error) {
	client, server := pipe()
	if !b.serve(server) {
		return nil, ErrClosed
	}
	return client, nil
}

// Addr returns the address, also while the broker is stopped.
func (b *Broker) Addr() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addr
}

// update runs change with b.mu held and then processes its consequences.
func (b *Broker) update(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin()
	change()
	b.settle()
}

// begin is called with b.mu held before each change.
func (b *Broker) begin() { b.now = b.clock.now() }

// settle delivers and expires messages and wakes the writers.
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

// tick runs the timers that are due.
func (b *Broker) tick() {
	b.update(func() {
		if !b.closed {
			b.clock.run(b.now)
		}
	})
}

// next returns an increasing sequence number.
func (b *Broker) next() uint64 {
	b.seq++
	return b.seq
}

func newVHost(name string) *vhost {
	v := &vhost{
		name: name, exchanges: make(map[string]*exchange), queues: make(map[string]*queue), undelivered: make(map[*queue]struct{}),
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

func (v *vhost) sortedQueues() []*queue { return sortedByName(maps.Values(v.queues)) }

func sortedByName(queues iter.Seq[*queue]) []*queue {
	return slices.SortedFunc(queues, func(a, b *queue) int { return strings.Compare(a.name, b.name) })
}
