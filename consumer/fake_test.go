package consumer

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// A method is the class and method of an AMQP frame.
type method [2]uint16

var (
	openChannel  = method{20, 10}
	declareQueue = method{50, 10}
	qos          = method{60, 10}
	consume      = method{60, 20}
	cancel       = method{60, 30}
	ackMethod    = method{60, 80}
	rejectMethod = method{60, 90}
)

// A fakeBroker speaks as much AMQP as a Consumer needs, over pipes, so that time can be the
// test's. What it says is said with its mutex held.
type fakeBroker struct {
	mute  method              // is not answered
	first []byte              // the headers of a stream's first message; nil for an empty stream
	on    func(method, *link) // is called after each request, answered or not

	leaderless atomic.Bool // the queue counts no consumers

	mu       sync.Mutex
	links    []*link
	shared   *link
	turn     chan struct{} // held while on is called
	requests []request
}

// A request is what a client asked for.
type request struct {
	method
	args []byte
}

// A link is one connection to a fakeBroker.
type link struct {
	ac   *amqp.Connection
	pipe net.Conn
	ch   uint16   // the channel that consumes
	tags []string // of the consumers
	sent uint64   // deliveries

	asked     atomic.Uint32 // prefetch of the last basic.qos
	dedicated bool

	redelivered bool // what is delivered from now on
}

// Consuming makes a new connection when the last one is closed.
func (b *fakeBroker) ConsumeConnection(context.Context) (*amqp.Connection, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shared != nil && !b.shared.ac.IsClosed() {
		return b.shared.ac, nil
	}
	l, err := b.dial()
	if err != nil {
		return nil, err
	}
	b.shared = l
	return l.ac, nil
}

// Dedicated makes a new connection, for a dedicatedBroker.
func (b dedicatedBroker) DedicatedConnection(context.Context) (*amqp.Connection, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuses != nil {
		return nil, b.refuses
	}
	l, err := b.dial()
	if err != nil {
		return nil, err
	}
	l.dedicated = true
	return l.ac, nil
}

func (b dedicatedBroker) LastLoss() (time.Time, error) { return b.lostAt, b.loss }

// A dedicatedBroker is a dedicatedConnector.
type dedicatedBroker struct {
	*fakeBroker
	refuses error
	lostAt  time.Time
	loss    error
}

// dial makes a connection. It is called with mu held.
func (b *fakeBroker) dial() (*link, error) {
	if b.turn == nil {
		b.turn = make(chan struct{}, 1)
	}
	client, server := net.Pipe()
	l := &link{pipe: server}
	go b.serve(l)
	ac, err := amqp.Open(wire.NewTransport(wire.NewLink(client)), amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{}}})
	if err != nil {
		return nil, err
	}
	l.ac = ac
	b.links = append(b.links, l)
	return l, nil
}

// close ends all connections.
func (b *fakeBroker) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.links {
		_ = l.ac.Close()
		_ = l.pipe.Close()
	}
}

// count returns how often a method was called.
func (b *fakeBroker) count(m method) int { return len(b.calls(m)) }

// calls returns the arguments of each call of a method.
func (b *fakeBroker) calls(m method) (args [][]byte) {
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
func (b *fakeBroker) acked() int {
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

func (b *fakeBroker) serve(l *link) {
	defer l.pipe.Close()
	if _, err := io.ReadFull(l.pipe, make([]byte, 8)); err != nil { // the protocol header
		return
	}
	l.say(0, method{10, 10}, []byte{0, 9}, long(nil), long([]byte("PLAIN")), long([]byte("en_US")))
	for {
		head := make([]byte, 7)
		if _, err := io.ReadFull(l.pipe, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
		if _, err := io.ReadFull(l.pipe, body); err != nil {
			return
		}
		if head[0] != 1 {
			continue
		}
		m := method{binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])}
		b.answer(l, binary.BigEndian.Uint16(head[1:]), m, body[4:len(body)-1])
	}
}

func (b *fakeBroker) answer(l *link, ch uint16, asked method, args []byte) {
	m := asked
	if m == (method{60, 70}) || m == consume && !bytes.Contains(args, []byte("first-")) { // get
		l.ch = ch
	}
	if m[0] != 10 {
		b.mu.Lock()
		b.requests = append(b.requests, request{m, args})
		if b.mute == m {
			m = method{}
		}
		b.mu.Unlock()
	}
	switch m {
	case method{10, 11}: // start-ok: tune
		l.say(0, method{10, 30}, []byte{0, 10, 0, 2, 0, 0, 0, 0})
	case method{10, 40}: // open
		l.say(0, method{10, 41}, short(""))
	case method{10, 50}: // close
		l.say(0, method{10, 51})
	case openChannel:
		l.say(ch, method{20, 11}, long(nil))
	case method{20, 40}: // channel.close
		l.say(ch, method{20, 41})
	case qos:
		l.asked.Store(uint32(binary.BigEndian.Uint16(args[4:])))
		l.say(ch, method{60, 11})
	case consume:
		queue := 2 + 1 + int(args[2])
		tag := string(args[queue+1 : queue+1+int(args[queue])])
		if strings.HasPrefix(tag, "first-") { // it reads the first message of a stream
			l.say(ch, method{60, 21}, short(tag))
			b.mu.Lock()
			first := b.first
			b.mu.Unlock()
			if first != nil {
				l.sendTo(ch, 1, tag, first)
			}
			return
		}
		l.tags = append(l.tags, tag)
		l.say(ch, method{60, 21}, short(tag))
	case declareQueue: // passive
		consumers := []byte{0, 0, 0, 1}
		if b.leaderless.Load() {
			consumers[3] = 0
		}
		l.say(ch, method{50, 11}, args[2:3+int(args[2])], []byte{0, 0, 0, 0}, consumers)
	case cancel:
		l.say(ch, method{60, 31}, args[:1+int(args[0])])
	}
	if b.on != nil {
		b.turn <- struct{}{}
		b.on(asked, l)
		<-b.turn
	}
}

// deliver sends the newest consumer a message with the headers of an encoded table.
func (l *link) deliver(headers []byte) { l.deliverTo(l.tags[len(l.tags)-1], headers) }

func (l *link) deliverTo(consumer string, headers []byte) {
	l.sent++
	l.sendTo(l.ch, l.sent, consumer, headers)
}

func (l *link) sendTo(ch uint16, sent uint64, consumer string, headers []byte) {
	tag := binary.BigEndian.AppendUint64(nil, sent)
	flags := []byte{0}
	if l.redelivered {
		flags[0] = 1
	}
	l.say(ch, method{60, 60}, short(consumer), tag, flags, short(""), short("orders"))
	l.content(ch, headers)
}

// prefetch returns the prefetch of the last basic.qos.
func (l *link) prefetch() uint16 { return uint16(l.asked.Load()) } //nolint:gosec // it was stored as one

// content sends the content of a message.
func (l *link) content(ch uint16, headers []byte) {
	content := binary.BigEndian.AppendUint64([]byte{0, 60, 0, 0}, 1) // class, weight, body size
	l.frame(2, ch, slices.Concat(content, []byte{1 << 5, 0}, long(headers)))
	l.frame(3, ch, []byte("m"))
}

func (l *link) say(ch uint16, m method, args ...[]byte) {
	head := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, m[0]), m[1])
	l.frame(1, ch, append(head, slices.Concat(args...)...))
}

func (l *link) frame(kind byte, ch uint16, payload []byte) {
	f := binary.BigEndian.AppendUint16([]byte{kind}, ch)
	f = binary.BigEndian.AppendUint32(f, uint32(len(payload)))
	_, _ = l.pipe.Write(append(append(f, payload...), 0xCE)) // fails when the client is gone
}

// fail closes the connection as RabbitMQ does for a message that it cannot encode.
func (l *link) fail(code uint16) {
	l.say(0, method{10, 50}, binary.BigEndian.AppendUint16(nil, code), short("INTERNAL_ERROR"), make([]byte, 4))
}

func short(s string) []byte { return append([]byte{byte(len(s))}, s...) }

func long(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// poison is a header table nested so deep that amqp091-go does not read it.
func poison() []byte {
	var t []byte
	for range 40 {
		t = slices.Concat(short("t"), []byte("F"), long(t))
	}
	return t
}

// runOn starts a Run on b and returns its end.
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

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(text))
}
