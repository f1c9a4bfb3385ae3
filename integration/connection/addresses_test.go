package connection

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

// resolve has every name resolve to these IPv4 addresses until the test ends.
func resolve(t *testing.T, addrs ...string) {
	t.Helper()
	old := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = old })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go answerDNS(server, addrs)
		return client, nil
	}}
}

// answerDNS answers one query over a stream (RFC 1035, 4.2.2).
func answerDNS(c net.Conn, addrs []string) {
	defer func() { _ = c.Close() }()
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return
	}
	query := make([]byte, binary.BigEndian.Uint16(head))
	if _, err := io.ReadFull(c, query); err != nil {
		return
	}
	end := 12
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5
	const typeA = 1
	if query[end-3] != typeA { // the type has two bytes, the class two more
		addrs = nil
	}
	msg := append([]byte{query[0], query[1], 0x84, 0, 0, 1, 0, byte(len(addrs)), 0, 0, 0, 0}, query[12:end]...)
	for _, a := range addrs {
		msg = append(msg, 0xc0, 12, 0, typeA, 0, 1, 0, 0, 0, 1, 0, 4) // the name of the question, A, IN, a second
		msg = append(msg, net.ParseIP(a).To4()...)
	}
	_, _ = c.Write(append([]byte{byte(len(msg) >> 8), byte(len(msg))}, msg...))
}

// It does not run in parallel, because the resolver is everybody's.
func TestS82AHealthyNodeBehindTheSameNameIsReached(t *testing.T) {
	u, err := url.Parse(kit.Broker(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	if u.Hostname() != "127.0.0.1" {
		kit.Skip(t, "needs a broker on 127.0.0.1")
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.2", u.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var closed atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			closed.Add(1)
			_ = c.Close()
		}
	}()
	resolve(t, "127.0.0.2", "127.0.0.1")
	u.Host = net.JoinHostPort("rabbit.test", u.Port())
	queue := kit.QuorumQueue(t, nil)
	for n := 0; closed.Load() == 0 || n < 5; n++ { // the order is random
		conn := kit.Connect(t, amqpkit.Config{URLs: []string{u.String()}})
		p := kit.NewProducer(t, conn, producer.Config{})
		began := time.Now()
		if err := p.Publish(kit.Within(t, 10*time.Second), "", queue, amqp.Publishing{}); err != nil {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
	}
}
