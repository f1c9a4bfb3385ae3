package wire

import (
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Link is the socket under one AMQP connection, kept within reach: amqp091-go closes a
// socket only after locks that a stuck writer may hold, and offers no way to it.
//
// The way back from an *amqp.Connection to its Link is LocalAddr, which amqp091-go and
// crypto/tls both pass through to the socket.
type Link struct {
	net.Conn
}

// NewLink wraps a freshly dialled socket.
func NewLink(nc net.Conn) *Link { return &Link{nc} }

// LocalAddr returns the socket's address. It carries the Link, for Kill.
func (l *Link) LocalAddr() net.Addr { return linkAddr{l.Conn.LocalAddr(), l} }

// Kill closes the socket at once. Every call waiting on it fails.
func (l *Link) Kill() { _ = l.Conn.Close() }

type linkAddr struct {
	net.Addr
	link *Link
}

// Kill closes the socket under ac at once, without a word to the broker. It does not block.
func Kill(ac *amqp.Connection) {
	if a, ok := ac.LocalAddr().(linkAddr); ok {
		a.link.Kill()
		return
	}
	// A connection that amqpkit did not dial: the deadline fails its reads and writes.
	go func() { _ = ac.CloseDeadline(time.Now()) }()
}
