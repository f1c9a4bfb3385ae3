package broker

import (
	"slices"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// A Request is a method frame that a client sent.
type Request struct {
	Channel uint16
	Payload []byte
	conn    *conn
}

// Intercept calls f with every method frame before the broker handles it. The broker ignores the frame if f returns true.
func (b *Broker) Intercept(f func(*Request) bool) { b.update(func() { b.faults.intercept = f }) }

// intercept reports whether the broker must ignore a frame. The reader calls it without b.mu, so f may call the broker.
func (c *conn) intercept(f codec.Frame) bool {
	if f.Type != codec.FrameMethod {
		return (f.Type == codec.FrameHeader || f.Type == codec.FrameBody) && c.ignored[f.Channel]
	}
	delete(c.ignored, f.Channel)
	c.b.mu.Lock()
	ask := c.b.faults.intercept
	c.b.mu.Unlock()
	if ask == nil || f.Malformed() {
		return false
	}
	c.b.update(func() { c.more = false }) // confirms must not wait while f sleeps, or for a frame that is ignored
	if !ask(&Request{Channel: f.Channel, Payload: slices.Clone(f.Payload), conn: c}) {
		return false
	}
	if id, ok := codec.MethodID(f.Payload); ok && id.HasContent() {
		if c.ignored == nil {
			c.ignored = make(map[uint16]bool)
		}
		c.ignored[f.Channel] = true
	}
	return true
}

// Connection returns the connection_name of the client.
func (r *Request) Connection() string { return r.conn.name }

// Reply sends encoded frames to the client.
func (r *Request) Reply(frames []byte) {
	r.do(func(c *conn) {
		c.out = append(c.out, frames...)
		c.pending()
	})
}

// CloseChannel closes the request's channel.
func (r *Request) CloseChannel(code int, text string) {
	r.do(func(c *conn) {
		if ch := c.channels[r.Channel]; ch != nil && !ch.closing {
			id, _ := codec.MethodID(r.Payload)
			ch.fail(id, &exception{code: code, text: text, exact: true})
		}
	})
}

// CloseConnection closes the client's connection.
func (r *Request) CloseConnection(code int, text string) {
	r.do(func(c *conn) { c.fail(0, 0, &exception{code: code, text: text, exact: true}) })
}

// DropConnection resets the client's connection.
func (r *Request) DropConnection() { r.conn.b.update(r.conn.reset) }

// do changes the connection unless it is being closed.
func (r *Request) do(change func(*conn)) {
	r.conn.b.update(func() {
		if c := r.conn; c.channels != nil && !c.closing && !c.finish {
			change(c)
		}
	})
}
