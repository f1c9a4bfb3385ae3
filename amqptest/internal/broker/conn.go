package broker

import (
	"errors"
	"net"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

const (
	// backlog is the number of unsent bytes at which deliveries to a connection pause until its client reads.
	backlog = 1 << 20
	// maxUnsent is the number of unsent bytes at which the broker stops reading. Deliveries alone rarely reach it, so
	// that a client can settle before it reads.
	maxUnsent = 4 * backlog
)

// A conn is a client's connection.
type conn struct {
	b      *Broker
	nc     net.Conn
	reader *codec.Reader
	wakeup chan struct{} // the writer has work
	cut    chan struct{} // closed to interrupt the reader's waits
	ended  chan struct{} // closed when the reader has returned

	// Set by the handshake.
	vhost        *vhost
	user         string
	name         string
	capabilities codec.Table
	frameMax     int
	channelMax   int
	heartbeat    time.Duration

	// Used by the reader only.
	renewal renewal
	ignored map[uint16]bool // channels on which the content of an intercepted method is ignored

	// Guarded by Broker.mu.
	channels    map[uint16]*channel
	out         []byte
	writing     int           // bytes taken by the writer but not yet written
	backlogged  bool          // deliveries wait for the writer
	sent        chan struct{} // closed when the writer has written; nil if the reader does not wait
	closing     bool          // connection.close was sent; everything except its answer is ignored
	leaving     bool          // the client sent connection.close and hangs up first
	finish      bool          // close the socket after everything is written
	interrupted bool
	blockedSent bool // connection.blocked was due
	isWoken     bool // in Broker.woken
	expiry      timer
	more        bool // the reader already has the next frame, so confirms wait for the ones it will cause
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
		c.reportError(err)
		return
	}
	for {
		f, err := c.next()
		if err != nil {
			c.reportError(err)
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

// next reads a frame. It fails if the client is silent for two heartbeats.
func (c *conn) next() (codec.Frame, error) {
	if c.heartbeat > 0 && !c.reader.Buffered() {
		_ = c.nc.SetReadDeadline(time.Now().Add(2 * c.heartbeat))
	}
	return c.reader.Next()
}

// handle handles a frame.
func (c *conn) handle(f codec.Frame) {
	if c.finish {
		return // wait until the client hangs up
	}
	if f.Channel == 0 {
		c.handleConnection(f)
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
			c.cutSoon() // RabbitMQ crashes on it and sends no reply code
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

// handleConnection handles a frame on channel 0.
func (c *conn) handleConnection(f codec.Frame) {
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

// awaitUnblocked delays the reader during an alarm. As in RabbitMQ, this starts with a publisher's next message.
func (c *conn) awaitUnblocked() {
	for {
		var unblocked chan struct{}
		c.b.update(func() {
			unblocked = c.b.faults.unblocked
			c.more = c.more && unblocked == nil
			if unblocked != nil && !c.blockedSent && !c.closing {
				c.blockedSent = true
				if c.hasCapability("connection.blocked") {
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

// hasCapability reports whether the client announced a protocol extension.
func (c *conn) hasCapability(capability string) bool {
	v, _ := c.capabilities.Get(capability)
	return v == true
}
