package broker

import (
	"errors"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// closeTimeout is how long a client has to read what is left, to answer connection.close, and to hang up.
const closeTimeout = 5 * time.Second

// fail closes the channel, or the connection if the exception is of that kind or the channel is 0.
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

// sendConfirms sends what its channels have to confirm.
func (c *conn) sendConfirms() {
	for _, ch := range c.channels {
		ch.sendConfirms()
	}
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

// reset cuts the connection at once.
func (c *conn) reset() {
	c.giveUp()
	reset(c.nc)
}

// cutSoon cuts the connection once it is written what waits.
func (c *conn) cutSoon() {
	c.giveUp()
	c.finish = true
	c.limitWrites()
	c.pending()
}

// limitWrites bounds how long a client that does not read holds up the end of its connection.
func (c *conn) limitWrites() { _ = c.nc.SetWriteDeadline(time.Now().Add(closeTimeout)) }

func (c *conn) giveUp() {
	if !c.isCut {
		c.isCut = true
		close(c.cut)
	}
}

// hangUp ends what the client is sent, and waits until the client hangs up, too. One that is leaving may do that first, as
// with RabbitMQ: it could take the end of its connection for a failure if it saw that with connection.close-ok.
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

// end forgets the connection and all it had.
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

// dropExclusive deletes the queues that are the connection's alone.
func (c *conn) dropExclusive() {
	for _, v := range c.b.vhosts {
		for _, q := range v.queues {
			if q.owner == c {
				c.b.removeQueue(q)
			}
		}
	}
}
