package amqpkit_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
)

// resolve has the name rabbit.test resolve to these addresses, for the rest of the test.
func resolve(t *testing.T, addrs ...string) {
	t.Helper()
	old := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = old })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go answer(server, addrs)
		return client, nil
	}}
}

// answer answers one query over a stream: each message has its length before it (RFC 1035, 4.2.2).
func answer(c net.Conn, addrs []string) {
	defer c.Close()
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
	kind := binary.BigEndian.Uint16(query[end-4:])
	var records []byte
	n := uint16(0)
	for _, a := range addrs {
		ip := netip.MustParseAddr(a)
		if ip.Is4() != (kind == 1) {
			continue
		}
		n++
		records = append(records, 0xc0, 12) // the name, as in the question
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 1)
		records = binary.BigEndian.AppendUint16(records, uint16(len(ip.AsSlice())))
		records = append(records, ip.AsSlice()...)
	}
	msg := append([]byte{query[0], query[1], 0x84, 0, 0, 1}, byte(n>>8), byte(n), 0, 0, 0, 0)
	msg = append(append(msg, query[12:end]...), records...)
	_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
}

// accept serves an address with f.
func accept(t *testing.T, addr string, f func(net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
}

func TestS82EveryAddressOfAHostIsTried(t *testing.T) {
	for name, f := range map[string]func(*atomic.Int64) func(net.Conn){
		"accepts and closes": func(n *atomic.Int64) func(net.Conn) {
			return func(c net.Conn) { n.Add(1); _ = c.Close() }
		},
		"says nothing": func(n *atomic.Int64) func(net.Conn) {
			return func(c net.Conn) { n.Add(1); _, _ = io.Copy(io.Discard, c); _ = c.Close() }
		},
		"speaks HTTP": func(n *atomic.Int64) func(net.Conn) {
			return func(c net.Conn) {
				n.Add(1)
				_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
				_ = c.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := amqptest.Start(t, amqptest.Config{})
			_, port, _ := net.SplitHostPort(strings.TrimSuffix(b.URL()[strings.Index(b.URL(), "@")+1:], "/"))
			port = strings.SplitN(port, "/", 2)[0]
			var broken atomic.Int64
			for _, ip := range []string{"127.0.0.2", "127.0.0.3"} {
				accept(t, net.JoinHostPort(ip, port), f(&broken))
			}
			resolve(t, "127.0.0.2", "127.0.0.1", "127.0.0.3", "::1")
			for broken.Load() == 0 { // the order is random
				conn, err := amqpkit.DialConfig(within(t), amqpkit.Config{
					URLs: []string{"amqp://guest:guest@rabbit.test:" + port + "/"}, DialTimeout: 2 * time.Second,
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := conn.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A Setup may also fail late, long after the time for dialling.
func TestS82ASetupThatFailsOnOneNodeIsTriedOnTheNext(t *testing.T) {
	for name, takes := range map[string]time.Duration{"at once": 0, "late": time.Second} {
		t.Run(name, func(t *testing.T) {
			b := amqptest.Start(t, amqptest.Config{})
			_, port, _ := net.SplitHostPort(b.URL()[strings.Index(b.URL(), "@")+1 : strings.LastIndex(b.URL(), "/")])
			resolve(t, "127.0.0.1", "127.0.0.1")
			var runs atomic.Int64
			conn, err := amqpkit.DialConfig(within(t), amqpkit.Config{
				URLs: []string{"amqp://guest:guest@rabbit.test:" + port + "/"}, DialTimeout: 500 * time.Millisecond,
				Setup: func(context.Context, *amqp.Connection) error {
					if runs.Add(1) == 1 {
						time.Sleep(takes)
						return errors.New("this node is too old")
					}
					return nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestS82AURLThatDoesNotAnswerLeavesTimeForTheOthers(t *testing.T) {
	b := amqptest.Start(t, amqptest.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := make(chan struct{}, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			silent <- struct{}{}
		}
	}()
	defer l.Close()
	for met := false; !met; { // the order is random
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{URLs: []string{"amqp://guest:guest@" + l.Addr().String() + "/", b.URL()}})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-silent:
			met = true
		default:
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestS82ADialerGetsTheNameAndTLSTheHost(t *testing.T) {
	name := make(chan string, 1)
	_, err := amqpkit.DialConfig(within(t), amqpkit.Config{
		URLs: []string{"amqps://guest:guest@rabbit.test/"},
		Dialer: func(_ context.Context, _, addr string) (net.Conn, error) {
			name <- addr
			return nil, errors.New("no network")
		},
	})
	if got := <-name; got != "rabbit.test:5671" || !errors.Is(err, amqpkit.ErrUnreachable) {
		t.Errorf("the Dialer got %q (%v)", got, err)
	}
	asked := make(chan string, 2)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked <- h.ServerName
		return nil, errors.New("none")
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	resolve(t, "127.0.0.1")
	if _, err := amqpkit.Dial(within(t), "amqps://guest:guest@rabbit.test:"+port+"/"); !errors.Is(err, amqpkit.ErrTLS) {
		t.Errorf("Dial = %v", err)
	}
	if got := <-asked; got != "rabbit.test" {
		t.Errorf("the TLS server name is %q", got)
	}
}
