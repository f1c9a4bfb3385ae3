package broker

import (
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// write is the writer.
func (c *conn) write() {
	var beat, late <-chan time.Time
	var spare []byte
	for {
		silent := false
		select {
		case <-c.wakeup:
		case <-beat:
			silent = true
		case <-late: // the client does not answer connection.close
			reset(c.nc)
		case <-c.ended:
			return
		}
		c.b.mu.Lock()
		buf, finish, leaving := c.out, c.finish, c.leaving
		c.out, c.writing, c.isWoken = spare[:0], len(buf), false
		if c.heartbeat > 0 && beat == nil {
			ticker := time.NewTicker(c.heartbeat / 2)
			defer ticker.Stop()
			beat = ticker.C
		}
		if c.closing && late == nil {
			late = time.After(closeTimeout)
		}
		c.b.mu.Unlock()
		if silent && len(buf) == 0 && !finish {
			buf = codec.AppendFrame(buf, codec.FrameHeartbeat, 0, nil)
		}
		if len(buf) > 0 {
			if _, err := c.nc.Write(buf); err != nil {
				c.b.mu.Lock()
				c.reset() // the reader returns
				c.b.mu.Unlock()
				<-c.ended
				return
			}
		}
		if finish {
			c.hangUp(leaving)
			return
		}
		spare = nil
		if cap(buf) <= 64<<10 {
			spare = buf
		}
		c.wrote()
	}
}

// wrote resumes deliveries that waited for the writer.
func (c *conn) wrote() {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.writing = 0
	if c.sent != nil {
		close(c.sent)
		c.sent = nil
	}
	if !c.backlogged {
		if c.b.watch != nil { // AwaitIdle waits until everything is sent
			close(c.b.watch)
			c.b.watch = nil
		}
		return
	}
	c.backlogged = false
	c.b.begin()
	for _, ch := range c.channels {
		for _, co := range ch.consumers {
			if co.queue != nil {
				co.queue.touch()
			}
		}
	}
	c.b.settle()
}

// wake can be called with or without b.mu.
func (c *conn) wake() {
	select {
	case c.wakeup <- struct{}{}:
	default:
	}
}

// pending wakes the writer at the end of the update.
func (c *conn) pending() {
	if !c.isWoken {
		c.isWoken = true
		c.b.woken = append(c.b.woken, c)
	}
}

func (c *conn) send(channel uint16, m codec.Method) {
	if c.finish || c.closing {
		return
	}
	c.out = codec.AppendMethod(c.out, channel, m)
	c.pending()
}

func (c *conn) sendContent(channel uint16, m codec.Method, properties, body []byte) {
	if c.finish || c.closing {
		return
	}
	c.out = codec.AppendMethod(c.out, channel, m)
	c.out = codec.AppendContent(c.out, channel, properties, body, c.frameMax)
	c.pending()
}

// full reports whether the reader must wait for a client that sends but does not read.
func (c *conn) full() bool { return !c.finish && len(c.out)+c.writing >= maxUnsent }

// awaitSent blocks the reader until the client reads.
func (c *conn) awaitSent() {
	for {
		var sent chan struct{}
		c.b.mu.Lock()
		if c.full() {
			if c.sent == nil {
				c.sent = make(chan struct{})
			}
			sent = c.sent
		}
		c.b.mu.Unlock()
		if sent == nil {
			return
		}
		select {
		case <-sent:
		case <-c.cut:
			return
		}
	}
}

// busy reports whether the client reads too slowly for more deliveries.
func (c *conn) busy() bool {
	if len(c.out)+c.writing < backlog {
		return false
	}
	c.backlogged = true
	return true
}
