package amqptest

import "github.com/amqpkit/amqpkit/amqptest/internal/broker"

// A Request is a method frame that a client sent to a [Broker], for the function passed to [Broker.Intercept]. Its methods may
// also be called later. They do nothing once the connection is closed.
type Request struct {
	// Frame is the method frame. Its Method method returns the class and method ids.
	Frame

	// Connection is the client's connection_name, empty if it sent none.
	Connection string

	request *broker.Request
}

// Intercept calls f with each method frame that a client sends after the handshake, before the broker handles it. If f returns
// true, the broker ignores the frame and the content that follows it: the request stays unanswered unless f answers it with
// [Request.Reply]. f may sleep, which delays all requests of that connection, and may call any method of the Broker except
// Close, Stop and Kill. It is called concurrently for different connections. Nil, Stop and Kill remove it.
func (b *Broker) Intercept(f func(*Request) bool) {
	if f == nil {
		b.broker.Intercept(nil)
		return
	}
	b.broker.Intercept(func(r *broker.Request) bool {
		return f(&Request{
			Frame:      Frame{Type: FrameMethod, Channel: r.Channel, Payload: r.Payload},
			Connection: r.Connection(),
			request:    r,
		})
	})
}

// Reply sends frames to the client that sent r. The broker does not know of these frames: settlements of deliveries that are
// sent this way must be intercepted.
func (r *Request) Reply(frames ...Frame) {
	var b []byte
	for _, f := range frames {
		b = f.appendTo(b)
	}
	r.request.Reply(b)
}

// CloseChannel closes the channel of r with a reply code and text, as the broker does for a request that it refuses.
func (r *Request) CloseChannel(code int, text string) { r.request.CloseChannel(code, text) }

// CloseConnection closes the connection of r with a reply code and text.
func (r *Request) CloseConnection(code int, text string) { r.request.CloseConnection(code, text) }

// DropConnection resets the connection of r.
func (r *Request) DropConnection() { r.request.DropConnection() }
