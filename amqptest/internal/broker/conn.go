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
	// closeTimeout is how long a client has to answer connection.close.
	closeTimeout = 5 * time.Second
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

	// Guarded by Broker.mu.
	channels map[uint16]*channel
	out      []byte
	writing  int  // bytes that the writer has taken and not yet written
	starved  bool // deliveries wait for the writer
	closing  bool // connection.close was sent: everything but the answer is ignored
	finish   bool // the socket is closed once all is written
	isCut    bool
	told     bool // of connection.blocked
	isWoken  bool // it is in Broker.woken
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
		if f.Type == codec.FrameHeader {
			c.awaitUnblocked()
		}
		over := false
		c.b.update(func() { over = c.handle(f) })
		if over {
			return
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

// give tells the client what it did wrong, if it can be told.
func (c *conn) give(err error) {
	var frame *codec.FrameError
	var f *failure
	switch {
	case errors.As(err, &frame):
		f = &failure{0, &exception{code: frameError, text: frame.Error()}}
	case !errors.As(err, &f):
		return
	}
	c.b.update(func() {
		if !c.closing {
			c.fail(0, f.id, f.exception)
		}
		c.cutSoon()
	})
	c.drain()
}

// drain reads until the client or the writer has closed: a socket closed with something unread is reset, and the
// client may never see what it was told.
func (c *conn) drain() {
	_ = c.nc.SetReadDeadline(time.Time{}) // the writer sees to the end
	b := make([]byte, 4096)
	for {
		if _, err := c.nc.Read(b); err != nil {
			return
		}
	}
}

// end forgets the connection and all it had.
func (c *conn) end() {
	c.b.update(func() {
		for _, ch := range c.channels {
			ch.release()
		}
		c.channels = nil
		for _, v := range c.b.vhosts {
			for _, q := range v.queues {
				if q.owner == c {
					c.b.removeQueue(q)
				}
			}
		}
		delete(c.b.conns, c)
		close(c.ended)
	})
	_ = c.nc.Close()
}

// fail closes the channel, or the connection if the exception is of that kind or the channel is 0.
func (c *conn) fail(channel uint16, id codec.ID, e *exception) {
	ch := c.channels[channel]
	if channel != 0 && !e.hard() && ch != nil {
		ch.fail(id, e)
		return
	}
	c.send(0, e.connectionClose(id))
	for _, ch := range c.channels {
		ch.release()
	}
	c.closing = true
}

// handle carries out what a frame says. It returns true when the connection is over.
func (c *conn) handle(f codec.Frame) bool {
	if c.isCut && c.finish {
		return false // until the client has hung up
	}
	if f.Channel == 0 {
		return c.handleOwn(f)
	}
	if c.closing {
		return false
	}
	ch := c.channels[f.Channel]
	if ch == nil {
		if f.Type != codec.FrameMethod {
			c.failFrame(f)
			return false
		}
		if c.channelMax > 0 && len(c.channels) >= c.channelMax {
			c.fail(0, 0, raise(notAllowed, "number of channels opened (%d) has reached the negotiated channel_max (%d)",
				len(c.channels), c.channelMax))
			return false
		}
		ch = newChannel(c, f.Channel)
		c.channels[f.Channel] = ch
	}
	ch.frame(f)
	return false
}

// handleOwn is handle for channel 0.
func (c *conn) handleOwn(f codec.Frame) bool {
	switch f.Type {
	case codec.FrameHeartbeat:
		return false
	case codec.FrameMethod:
	default:
		if !c.closing {
			c.failFrame(f)
		}
		return false
	}
	id, m, err := codec.Parse(f.Payload)
	switch m := m.(type) {
	case *codec.ConnectionClose:
		c.closing = false
		c.send(0, new(codec.ConnectionCloseOk))
		for _, ch := range c.channels {
			ch.release()
		}
		c.finish = true
		c.pending()
		return false
	case *codec.ConnectionCloseOk:
		if c.closing {
			c.finish = true
			c.pending()
			return false
		}
	case *codec.ConnectionUpdateSecret:
		if err == nil && !c.closing {
			c.updateSecret(string(m.Secret))
			return false
		}
	}
	if c.closing {
		return false
	}
	if m == nil || err != nil {
		c.failMethod(f, id, m)
		return false
	}
	c.fail(0, id, raise(channelError, "unexpected method in connection state running"))
	return false
}

// failMethod closes the connection for a method that cannot be read. One that is unknown costs RabbitMQ its composure,
// and the client a word.
func (c *conn) failMethod(f codec.Frame, id codec.ID, m codec.Method) {
	if m == nil {
		c.cutSoon()
		return
	}
	c.fail(0, id, raise(frameError, "cannot decode %s", codec.Erlang(f.Payload[4:])))
}

// failFrame closes the connection for a frame that has no place, or is of no type.
func (c *conn) failFrame(f codec.Frame) {
	e := &exception{code: unexpectedFrame, text: codec.Snippet(f)}
	switch f.Type {
	case codec.FrameMethod, codec.FrameHeader, codec.FrameBody, codec.FrameHeartbeat:
	default:
		e = &exception{code: frameError, text: e.text + ": unknown_frame"}
	}
	c.fail(0, 0, e)
}

// reset cuts the connection at once.
func (c *conn) reset() {
	c.giveUp()
	reset(c.nc)
}

// cutSoon cuts the connection once it is written what waits.
func (c *conn) cutSoon() {
	c.giveUp()
	c.finish = true
	_ = c.nc.SetWriteDeadline(time.Now().Add(closeTimeout))
	c.pending()
}

func (c *conn) giveUp() {
	if !c.isCut {
		c.isCut = true
		close(c.cut)
	}
}

// awaitUnblocked keeps the reader from reading on, as RabbitMQ does at a publisher's next message under an alarm.
func (c *conn) awaitUnblocked() {
	for {
		var unblocked chan struct{}
		c.b.update(func() {
			unblocked = c.b.faults.unblocked
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
