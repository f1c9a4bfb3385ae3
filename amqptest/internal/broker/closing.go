package broker

import (
	"errors"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// closeTimeout limits how long a client may take to read the remaining data, to answer connection.close and to hang up.
const closeTimeout = 5 * time.Second

// fail closes the channel. It closes the connection if the exception requires that or the channel is 0.
func (c *conn) fail(channel uint16, id codec.ID, e *exception) {
	ch := c.channels[channel]
	if channel != 0 && !e.hard() && ch != nil {
		ch.fail(id, e)
		return
	}
	c.sendConfirms()
	c.send(0, e.connectionClose(id))
	for _, ch := range c.channels {
		ch.release()
	}
	c.closing = true
	c.limitWrites()
}

// sendConfirms sends the pending confirms of all channels.
func (c *conn) sendConfirms() {
	for _, ch := range c.channels {
		ch.sendConfirms()
	}
}

// reportError sends the client the error that ends its connection, if the error has a code.
func (c *conn) reportError(err error) {
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

// drain reads until the client or the writer closes. A socket that is closed with unread data is reset, and the client
// might miss the reply code.
func (c *conn) drain() {
	_ = c.nc.SetReadDeadline(time.Time{}) // the writer limits the time
	b := make([]byte, 4096)
	for {
		if _, err := c.nc.Read(b); err != nil {
			return
		}
	}
}

// reset cuts the connection at once.
func (c *conn) reset() {
	c.interrupt()
	reset(c.nc)
}

// cutSoon cuts the connection after the pending data was written.
func (c *conn) cutSoon() {
	c.interrupt()
	c.finish = true
	c.limitWrites()
	c.pending()
}

// limitWrites limits how long a client that does not read can delay the end of its connection.
func (c *conn) limitWrites() { _ = c.nc.SetWriteDeadline(time.Now().Add(closeTimeout)) }

func (c *conn) interrupt() {
	if !c.interrupted {
		c.interrupted = true
		close(c.cut)
	}
}

// hangUp closes the sending side and waits until the client hangs up too. A client that sent connection.close may hang
// up first, as with RabbitMQ; otherwise it could mistake the end of the stream for a failure.
func (c *conn) hangUp(leaving bool) {
	if leaving {
		select {
		case <-c.ended:
			return
		case <-c.cut:
		case <-time.After(closeTimeout):
		}
	}
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	select {
	case <-c.ended:
	case <-time.After(closeTimeout):
		reset(c.nc)
		<-c.ended
	}
}

// end removes the connection and its channels, consumers and exclusive queues.
func (c *conn) end() {
	c.b.update(func() {
		for _, ch := range c.channels {
			ch.release()
		}
		c.channels, c.more = nil, false
		c.b.clock.unset(&c.expiry)
		c.dropExclusive()
		delete(c.b.conns, c)
		close(c.ended)
	})
	_ = c.nc.Close()
}

// dropExclusive deletes the exclusive queues of the connection.
func (c *conn) dropExclusive() {
	for _, v := range c.b.vhosts {
		for _, q := range v.queues {
			if q.owner == c {
				c.b.removeQueue(q)
			}
		}
	}
}
