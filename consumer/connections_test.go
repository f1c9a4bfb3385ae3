package consumer

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// A method is the class and method id of an AMQP method.
type method [2]uint16

var (
	openChannel  = method{20, 10}
	closeChannel = method{20, 40}
	declareQueue = method{50, 10}
	qos          = method{60, 10}
	consume      = method{60, 20}
	cancel       = method{60, 30}
	ackMethod    = method{60, 80}
	rejectMethod = method{60, 90}
	nackMethod   = method{60, 120}
)

// connections are a Consumer's connections to an in-memory amqptest.Broker with the queue orders. They are opened
// directly, so that the backoff of an amqpkit.Conn does not influence the timing.
type connections struct {
	mute   method              // requests of this method are not answered
	on     func(method, *link) // called with each request before the broker handles it, one call at a time
	quorum bool                // orders is a quorum queue, otherwise a classic queue

	// stream replies to consumers in place of the broker, because amqptest has no streams. Deliveries are injected, and
	// first has the headers of the stream's first message, nil for an empty stream.
	stream bool
	first  amqp.Table

	start  sync.Once
	broker *amqptest.Broker
	turn   chan struct{} // held while on is called

	mu       sync.Mutex
	links    []*link
	shared   *link
	requests []request
}

// A request is a method that a client sent.
type request struct {
	method
	args []byte
}

// A link is one connection.
type link struct {
	b         *connections
	ac        *amqp.Connection
	dedicated bool
	limit     atomic.Uint32 // of the last basic.qos
	stalled   atomic.Bool
	closed    chan struct{}

	last    atomic.Pointer[amqptest.Request] // the last request
	request atomic.Pointer[amqptest.Request] // the last basic.consume or basic.get, except by the reader of a stream's first message

	// Used by on.
	replied bool     // last was answered, so the broker must not handle it
	tags    []string // of the consumers
	sent    uint64   // deliveries
}

// run starts the broker.
func (b *connections) run() {
	b.turn = make(chan struct{}, 1)
	broker, err := amqptest.New(amqptest.Config{InMemory: true, Heartbeat: 10 * time.Hour})
	if err != nil {
		panic(err)
	}
	b.broker = broker
	args := amqp.Table{}
	if b.quorum {
		args["x-queue-type"] = "quorum"
	}
	b.onChannel(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare("orders", true, false, false, false, args)
		return err
	})
	broker.Intercept(b.intercept)
}

// onChannel calls do with a channel on a separate connection.
func (b *connections) onChannel(do func(*amqp.Channel) error) {
	l, err := b.dial("setup")
	if err != nil {
		panic(err)
	}
	defer func() { _ = l.ac.Close() }()
	ch, err := l.ac.Channel()
	if err == nil {
		err = do(ch)
	}
	if err != nil {
		panic(err)
	}
}

func (b *connections) dial(name string) (*link, error) {
	nc, err := b.broker.Dial(context.Background(), "", "")
	if err != nil {
		return nil, err
	}
	l := &link{b: b, closed: make(chan struct{})}
	l.ac, err = amqp.Open(wire.NewTransport(wire.NewLink(&stallable{nc, l, sync.OnceFunc(func() { close(l.closed) })})), amqp.Config{
		SASL:  []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "guest"}},
		Vhost: "/", Properties: amqp.Table{"connection_name": name}, Heartbeat: 10 * time.Hour,
	})
	return l, err
}

// open is dial for a connection of the consumer. It is called with mu held.
func (b *connections) open() (*link, error) {
	b.start.Do(b.run)
	l, err := b.dial(strconv.Itoa(len(b.links)))
	if err == nil {
		b.links = append(b.links, l)
	}
	return l, err
}

// ConsumeConnection opens a connection if the last one is closed.
func (b *connections) ConsumeConnection(context.Context) (*amqp.Connection, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shared != nil && !b.shared.ac.IsClosed() {
		return b.shared.ac, nil
	}
	l, err := b.open()
	if err != nil {
		return nil, err
	}
	b.shared = l
	return l.ac, nil
}

// dedicatedConnections are connections with a dedicatedConnector.
type dedicatedConnections struct {
	*connections
	refuses error
	lostAt  time.Time
	loss    error
}

// DedicatedConnection opens a connection.
func (b dedicatedConnections) DedicatedConnection(context.Context) (*amqp.Connection, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuses != nil {
		return nil, b.refuses
	}
	l, err := b.open()
	if err != nil {
		return nil, err
	}
	l.dedicated = true
	return l.ac, nil
}

func (b dedicatedConnections) LastLoss() (time.Time, error) { return b.lostAt, b.loss }

// close closes all connections and the broker.
func (b *connections) close() {
	b.start.Do(b.run)
	b.broker.Intercept(nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.links {
		_ = l.ac.Close()
	}
	_ = b.broker.Close()
}

// intercept records a request, and answers it if the test asks for that.
func (b *connections) intercept(r *amqptest.Request) (answered bool) {
	class, id, _ := r.Method()
	if class == 10 || r.Connection == "setup" {
		return false
	}
	m, args := method{class, id}, r.Payload[4:]
	n, _ := strconv.Atoi(r.Connection)
	b.mu.Lock()
	l := b.links[n]
	b.requests = append(b.requests, request{m, args})
	muted, first := b.mute == m, b.first
	b.mu.Unlock()
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	l.replied = muted
	l.last.Store(r)
	reading := m == consume && bytes.Contains(args, []byte("first-")) // the first message of a stream
	switch m {
	case qos:
		l.limit.Store(uint32(binary.BigEndian.Uint16(args[4:])))
	case method{60, 70}:
		l.request.Store(r)
	case consume:
		if !reading {
			l.request.Store(r)
			if !muted {
				l.tags = append(l.tags, consumerTag(r))
			}
		}
	}
	if b.stream && !muted {
		switch m {
		case consume:
			l.reply(amqptest.MethodFrame(r.Channel, 60, 21, consumerTag(r)))
			if reading && first != nil {
				l.reply(amqptest.BasicDeliver(r.Channel, consumerTag(r), 1, message(first))...)
			}
		case cancel:
			l.reply(amqptest.MethodFrame(r.Channel, 60, 31, string(args[1:1+args[0]])))
		case ackMethod, rejectMethod, nackMethod:
			l.replied = true
		}
	}
	if b.on != nil && !reading {
		b.on(m, l)
	}
	return l.replied
}

// consumerTag returns the consumer tag of a basic.consume.
func consumerTag(r *amqptest.Request) string {
	args := r.Payload[4:]
	tag := args[3+int(args[2]):] // after the ticket and the queue's name
	return string(tag[1 : 1+tag[0]])
}

func message(headers amqp.Table) amqptest.Message {
	return amqptest.Message{Key: "orders", Headers: headers, Body: []byte("m")}
}

// count returns how often a method was called.
func (b *connections) count(m method) int { return len(b.calls(m)) }

// calls returns the arguments of each call of a method.
func (b *connections) calls(m method) (args [][]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		if r.method == m {
			args = append(args, r.args)
		}
	}
	return args
}

// acked returns how many deliveries of a channel were acknowledged, one by one or by multiple.
func (b *connections) acked() int {
	tags := map[uint64]bool{}
	upTo := uint64(0)
	for _, args := range b.calls(ackMethod) {
		tag := binary.BigEndian.Uint64(args)
		if args[8]&1 == 1 {
			upTo = max(upTo, tag)
		}
		tags[tag] = true
	}
	n := upTo
	for tag := range tags {
		if tag > upTo {
			n++
		}
	}
	return int(n)
}

// prefetch returns the prefetch of the last basic.qos.
func (l *link) prefetch() uint16 { return uint16(l.limit.Load()) } //nolint:gosec // it was stored as one

// deliver sends a message to the queue, or to the newest consumer of a stream.
func (l *link) deliver(headers amqp.Table) {
	l.sent++
	if l.b.stream {
		l.forge(l.sent, headers)
		return
	}
	if _, err := l.b.broker.Publish("", "orders", message(headers)); err != nil {
		panic(err)
	}
}

// forge injects a delivery to the newest consumer. The broker does not know of it.
func (l *link) forge(tag uint64, headers amqp.Table) {
	l.confirmConsume()
	l.request.Load().Reply(amqptest.BasicDeliver(l.request.Load().Channel, l.tags[len(l.tags)-1], tag, message(headers))...)
}

// reply answers the last request in place of the broker.
func (l *link) reply(frames ...amqptest.Frame) {
	l.replied = true
	l.last.Load().Reply(frames...)
}

// confirmConsume answers a basic.consume that is being intercepted.
func (l *link) confirmConsume() {
	r := l.last.Load()
	if class, id, _ := r.Method(); (method{class, id}) == consume && !l.replied {
		l.reply(amqptest.MethodFrame(r.Channel, 60, 21, consumerTag(r)))
	}
}

// fail closes the connection as RabbitMQ does for a message that it cannot encode.
func (l *link) fail(code uint16) {
	l.confirmConsume()
	l.last.Load().CloseConnection(int(code), "INTERNAL_ERROR")
}

// cut resets the connection after the requests received so far were answered.
func (l *link) cut() { time.AfterFunc(time.Nanosecond, l.last.Load().DropConnection) }

// refuse closes the channel in answer to basic.consume.
func (l *link) refuse(code int, reason string) { l.request.Load().CloseChannel(code, reason) }

// A stallable connection blocks writes while its link is stalled.
type stallable struct {
	net.Conn
	l     *link
	close func()
}

func (s *stallable) Write(b []byte) (int, error) {
	if s.l.stalled.Load() {
		<-s.l.closed
	}
	return s.Conn.Write(b)
}

func (s *stallable) Close() error {
	s.close()
	return s.Conn.Close()
}

// poison is a header table nested too deeply for amqp091-go.
func poison() amqp.Table {
	t := amqp.Table{}
	for range 40 {
		t = amqp.Table{"t": t}
	}
	return t
}

// runOn starts a Run on b. end stops it and returns its result.
func runOn(t *testing.T, b interface {
	Connection
	close()
}, cfg Config, h Handler,
) (c *Consumer, end func() error) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Queue = "orders"
	c, err := New(b, cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, func() error {
		cancel()
		err := <-done
		b.close()
		return err
	}
}

// A logbook is a log destination that counts texts.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}
