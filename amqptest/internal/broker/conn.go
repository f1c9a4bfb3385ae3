package broker

import (
	"errors"
	"net"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

const (
	// backlog is how many unsent bytes stop deliveries to a connection, until its client reads on.
	backlog = 1 << 20
	// maxUnsent is how many unsent bytes keep the broker from reading on. Deliveries alone seldom come to that, so that
	// a client may settle before it reads.
	maxUnsent = 4 * backlog
)

// A conn is one client's connection.
type conn struct {
	b      *Broker
	nc     net.Conn
	reader *codec.Reader
	wakeup chan struct{} // there is something for the writer
	cut    chan struct{} // closed when the connection is given up: ends a wait of the reader
	ended  chan struct{} // closed when the reader has ended

	// Fixed by the handshake.
	vhost        *vhost
	user         string
	name         string
	capabilities codec.Table
	frameMax     int
	channelMax   int
	heartbeat    time.Duration

	// Used by the reader only.
	renewal renewal
	ignored map[uint16]bool // channels whose content frames belong to an intercepted method

	// Guarded by Broker.mu.
	channels map[uint16]*channel
	out      []byte
	writing  int           // bytes that the writer has taken and not yet written
	starved  bool          // deliveries wait for the writer
	sent     chan struct{} // closed when the writer has written; nil if the reader does not wait for it
	closing  bool          // connection.close was sent: everything but the answer is ignored
	leaving  bool          // the client sent connection.close: it hangs up first
	finish   bool          // the socket is closed once all is written
	isCut    bool
	told     bool // of connection.blocked
	isWoken  bool // it is in Broker.woken
	expiry   timer
	more     bool // the reader has the next frame already: confirms wait for those that it leads to
}

func newConn(b *Broker, nc net.Conn) *conn {
	return &conn{
		b: b, nc: nc,
		reader:   codec.NewReader(nc, handshakeFrame-codec.EmptyFrame),
		wakeup:   make(chan struct{}, 1),
		cut:      make(chan struct{}),
		ended:    make(chan struct{}),
		channels: make(map[uint16]*channel),
	}
}

// run is the reader.
func (c *conn) run() {
	defer c.end()
	if err := c.handshake(); err != nil {
		c.give(err)
		return
	}
	for {
		f, err := c.next()
		if err != nil {
			c.give(err)
			return
		}
		if c.intercept(f) {
			continue
		}
		c.renew(f)
		if f.Type == codec.FrameHeader {
			c.awaitUnblocked()
		}
		full, more := false, c.reader.Ready()
		c.b.update(func() {
			c.handle(f)
			full = c.full()
			c.more = !full && more
		})
		if full {
			c.awaitSent()
		}
	}
}

// next reads a frame. A client that is silent for two heartbeats is given up.
func (c *conn) next() (codec.Frame, error) {
	if c.heartbeat > 0 && !c.reader.Buffered() {
		_ = c.nc.SetReadDeadline(time.Now().Add(2 * c.heartbeat))
	}
	return c.reader.Next()
}

// handle carries out what a frame says.
func (c *conn) handle(f codec.Frame) {
	if c.finish {
		return // until the client has hung up
	}
	if f.Channel == 0 {
		c.handleOwn(f)
		return
	}
	if c.closing {
		return
	}
	var id codec.ID
	switch {
	case f.Malformed():
		c.failWith(unknownFrame(f))
		return
	case f.Type == codec.FrameHeartbeat:
		c.failWith(unexpectedFrameOf(f))
		return
	case f.Type == codec.FrameMethod:
		var known bool
		if id, known = codec.MethodID(f.Payload); !known {
			c.cutSoon() // RabbitMQ stumbles over it, and the client is not told
			return
		}
	}
	ch := c.channels[f.Channel]
	if ch == nil {
		if c.channelMax > 0 && len(c.channels) >= c.channelMax {
			c.fail(0, 0, raise(notAllowed, "number of channels opened (%d) has reached the negotiated channel_max (%d)",
				len(c.channels), c.channelMax))
			return
		}
		ch = newChannel(c, f.Channel)
		c.channels[f.Channel] = ch
	}
	ch.frame(f, id)
}

// handleOwn is handle for channel 0.
func (c *conn) handleOwn(f codec.Frame) {
	m, err := method0(f, stateRunning)
	var told *failure
	switch {
	case errors.As(err, &told):
		if !c.closing {
			c.failWith(told)
		}
		return
	case err != nil:
		c.cutSoon()
		return
	}
	switch m := m.(type) {
	case nil:
	case *codec.ConnectionClose:
		c.closing = false
		c.sendConfirms()
		c.send(0, new(codec.ConnectionCloseOk))
		for _, ch := range c.channels {
			ch.release()
		}
		c.dropExclusive()
		c.leaving, c.finish = true, true
		c.limitWrites()
		c.pending()
	case *codec.ConnectionCloseOk:
		if !c.closing {
			c.failWith(unexpectedMethod0(m, stateRunning))
			return
		}
		c.finish = true
		c.pending()
	case *codec.ConnectionUpdateSecret:
		if !c.closing {
			c.updateSecret(m.ID())
		}
	default:
		if !c.closing {
			c.failWith(unexpectedMethod0(m, stateRunning))
		}
	}
}

// failWith closes the connection.
func (c *conn) failWith(f *failure) { c.fail(0, f.id, f.exception) }

// awaitUnblocked keeps the reader from reading on, as RabbitMQ does at a publisher's next message under an alarm.
func (c *conn) awaitUnblocked() {
	for {
		var unblocked chan struct{}
		c.b.update(func() {
			unblocked = c.b.faults.unblocked
			c.more = c.more && unblocked == nil
			if unblocked != nil && !c.told && !c.closing {
				c.told = true
				if c.can("connection.blocked") {
					c.send(0, &codec.ConnectionBlocked{Reason: c.b.faults.reason})
				}
			}
		})
		if unblocked == nil {
			return
		}
		select {
		case <-unblocked:
		case <-c.cut:
			return
		}
	}
}

// can tells whether the client said that it knows an extension of the protocol.
func (c *conn) can(capability string) bool {
	v, _ := c.capabilities.Get(capability)
	return v == true
}
