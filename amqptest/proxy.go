package amqptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Proxy stands between AMQP 0-9-1 clients and a broker, and misbehaves on demand. Its faults are those of
// [Faults], for all links. What is not AMQP passes as bytes, without events, and meets those faults that need no
// frames. All methods may be called by several goroutines at once.
type Proxy struct {
	Faults

	url      string
	listener *net.TCPListener
	journal  journal
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	// version counts the changes of what mu guards: a pump has to look again when it has moved.
	version atomic.Uint64

	mu      sync.Mutex
	target  string
	refuse  bool
	chosen  []*Faults // those of Only that something was asked of
	links   []*link
	count   int
	changed chan struct{} // closed at the next change
}

// NewProxy listens on a free port of 127.0.0.1 and carries what connects there on to the broker, an amqp:// URL.
// It does not connect to the broker by itself. A URL of amqps:// is an error: nothing could be told of what is
// encrypted.
func NewProxy(brokerURL string) (*Proxy, error) {
	u, err := url.Parse(brokerURL)
	switch {
	case err != nil: // and what it says may hold a piece of the password
		return nil, errors.New("amqptest: the broker's URL is malformed")
	case u.Scheme == "amqps":
		return nil, errors.New("amqptest: the broker's URL is of amqps, which a proxy cannot look into: use amqp")
	case u.Scheme != "amqp" || u.Hostname() == "":
		return nil, errors.New("amqptest: the broker's URL is not of the form amqp://host:port/vhost")
	}
	port := u.Port()
	if port == "" {
		port = "5672"
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("amqptest: %w", err)
	}
	p := &Proxy{listener: l, target: net.JoinHostPort(u.Hostname(), port), changed: make(chan struct{})}
	u.Host = p.Addr()
	p.url = u.String()
	p.proxy = p
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.accept)
	return p, nil
}

// StartProxy is NewProxy for a test, which fails if that does. The proxy is closed at the end of the test.
func StartProxy(tb testing.TB, brokerURL string) *Proxy {
	tb.Helper()
	p, err := NewProxy(brokerURL)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// URL is the broker's URL, with its login and virtual host, but with the address of the proxy.
func (p *Proxy) URL() string { return p.url }

// Addr is the proxy's address, 127.0.0.1:PORT.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close cuts all links, stops listening and returns when all goroutines of the proxy have ended. The error is always
// nil, and a second call does nothing.
func (p *Proxy) Close() error {
	p.cancel()
	_ = p.listener.Close()
	p.update(func() {
		for _, l := range p.links {
			l.cut()
		}
	})
	p.wg.Wait()
	return nil
}

// Redirect carries new connections to another broker, host:port. The open ones stay where they are.
func (p *Proxy) Redirect(addr string) { p.update(func() { p.target = addr }) }

// Refuse resets new connections as soon as they come (RST), while it is on. The open ones stay.
func (p *Proxy) RefuseConnections(on bool) { p.update(func() { p.refuse = on }) }

func (p *Proxy) accept() {
	for {
		client, err := p.listener.AcceptTCP()
		if p.ctx.Err() != nil {
			if err == nil {
				reset(client)
			}
			return
		}
		if err != nil { // such as too many open files, which may pass
			select {
			case <-time.After(10 * time.Millisecond):
			case <-p.ctx.Done():
			}
			continue
		}
		var l *link
		p.update(func() {
			if p.refuse || p.ctx.Err() != nil {
				return
			}
			p.count++
			l = &link{proxy: p, client: client, Link: Link{ID: p.count}}
			p.links = append(p.links, l)
		})
		if l == nil {
			reset(client)
			continue
		}
		p.wg.Go(l.run)
	}
}

// update changes what p.mu guards, and has everyone look who waits for a change.
func (p *Proxy) update(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.version.Add(1)
	for _, l := range p.links {
		l.wake()
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// planFor merges what is asked for one way of a link, narrower choices last. It is called with p.mu held.
func (p *Proxy) planFor(l Link, way int) plan {
	sum := p.ways[way]
	for _, f := range p.chosen {
		if f.matches(l) {
			sum = sum.with(f.ways[way])
		}
	}
	return sum
}

// reset closes a connection with RST instead of FIN.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
