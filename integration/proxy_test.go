package integration

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// A proxy stands between a client and the broker, and misbehaves on demand.
type proxy struct {
	url string

	mu     sync.Mutex
	target string
	conns  []net.Conn
	held   map[direction]chan struct{} // what goes that way waits until the channel is closed
	wg     sync.WaitGroup
}

type direction int

const (
	requests direction = iota // from the client
	replies                   // from the broker
)

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: u.Host, held: map[direction]chan struct{}{}}
	u.Host = l.Addr().String()
	p.url = u.String()
	p.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.serve(client)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve(client net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	p.wg.Go(func() { p.pass(requests, server, client) })
	p.wg.Go(func() { p.pass(replies, client, server) })
}

func (p *proxy) pass(d direction, to, from net.Conn) {
	defer func() { _ = to.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		held := p.held[d]
		p.mu.Unlock()
		if held != nil {
			<-held
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// redirect sends new connections to another address.
func (p *proxy) redirect(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// hold keeps what goes one way from now on.
func (p *proxy) hold(d direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[d] == nil {
		p.held[d] = make(chan struct{})
	}
}

// release lets everything go on.
func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.letGo()
}

// cut closes every connection, without delivering what is held.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
	p.letGo()
}

// letGo is called with p.mu held.
func (p *proxy) letGo() {
	for d, held := range p.held {
		close(held)
		delete(p.held, d)
	}
}
