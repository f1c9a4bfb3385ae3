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

// A Proxy forwards AMQP 0-9-1 connections to a broker and injects faults. Its embedded [Faults] affect all links. Other
// protocols are forwarded as bytes, without events, and only faults that need no frames affect them. All methods are
// safe for concurrent use.
type Proxy struct {
	Faults

	url      string
	listener *net.TCPListener
	recorder recorder
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	// version counts the changes of the fields guarded by mu. A pump refreshes its plan when the version has changed.
	version atomic.Uint64

	mu       sync.Mutex
	target   string
	refuse   bool
	selected []*Faults // the faults of ForLinks that were set
	links    []*link
	count    int
	changed  chan struct{} // closed at the next change
}

// NewProxy listens on a free port of 127.0.0.1 and forwards connections to the broker at an amqp:// URL. It does not
// connect until a client does. An amqps:// URL is an error, because the proxy cannot read encrypted frames.
func NewProxy(brokerURL string) (*Proxy, error) {
	u, err := url.Parse(brokerURL)
	switch {
	case err != nil: // err is dropped, because it may contain a part of the password
		return nil, errors.New("amqptest: invalid broker URL")
	case u.Scheme == "amqps":
		return nil, errors.New("amqptest: broker URL has scheme amqps, but the proxy cannot read TLS: use amqp")
	case u.Scheme != "amqp" || u.Hostname() == "":
		return nil, errors.New("amqptest: broker URL must have the form amqp://host:port/vhost")
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

// StartProxy calls NewProxy, fails the test on an error, and closes the proxy at the end of the test.
func StartProxy(tb testing.TB, brokerURL string) *Proxy {
	tb.Helper()
	p, err := NewProxy(brokerURL)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// URL returns the broker's URL with the proxy's address.
func (p *Proxy) URL() string { return p.url }

// Addr returns the proxy's address, 127.0.0.1:PORT.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close resets all links, stops listening and waits for the proxy's goroutines. It always returns nil. Further calls
// have no effect.
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

// Redirect forwards new connections to another broker at host:port. Open links are unaffected.
func (p *Proxy) Redirect(addr string) { p.update(func() { p.target = addr }) }

// RefuseConnections resets new connections at once (RST) while on is true. Open links are unaffected.
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
		if err != nil { // for example too many open files, which may be temporary
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

// update changes fields guarded by p.mu and wakes everything that waits for a change.
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

// planFor combines the faults of one direction of a link, narrower selections last. It is called with p.mu held.
func (p *Proxy) planFor(l Link, way int) plan {
	sum := p.ways[way]
	for _, f := range p.selected {
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
