package amqptest

import (
	"net"
	"slices"
	"sync"
	"time"
)

// A link forwards one client connection. It runs two pumps, one per direction.
type link struct {
	proxy      *Proxy
	client     *net.TCPConn
	writeOrder sync.Mutex // held while writing and reporting the write's events

	// Guarded by proxy.mu.
	Link
	broker *net.TCPConn // nil until dialled
	pumps  [2]*pump     // by direction; nil until dialled
	closed bool         // both sockets are closed
}

func (l *link) run() {
	p := l.proxy
	defer p.update(func() { p.links = slices.DeleteFunc(p.links, func(other *link) bool { return other == l }) })
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	var d net.Dialer
	c, err := d.DialContext(p.ctx, "tcp", target)
	if err != nil {
		p.update(l.cut)
		return
	}
	l.start(c.(*net.TCPConn))
	p.recorder.record(Event{Kind: LinkOpened, At: time.Now(), Link: l.ID, Addr: l.client.RemoteAddr().String()})
	var wg sync.WaitGroup
	wg.Go(l.pumps[toClient].run)
	l.pumps[toBroker].run()
	wg.Wait()
	p.update(func() {
		l.closed = true
		_ = l.client.Close() // after a FIN in both directions, or after cut
		_ = l.broker.Close()
	})
	p.recorder.record(Event{Kind: LinkClosed, At: time.Now(), Link: l.ID, Name: l.Name})
}

// start creates the pumps. If the link was cut meanwhile, the pumps stop at once.
func (l *link) start(broker *net.TCPConn) {
	known := &channels{byNumber: map[uint16]*channel{}}
	l.proxy.update(func() {
		l.broker = broker
		if l.closed {
			reset(broker)
		}
		l.pumps = [2]*pump{
			newPump(l, FromClient, l.client, broker, known),
			newPump(l, FromBroker, broker, l.client, known),
		}
	})
}

// isOpen reports whether the client is connected to the broker, as far as is known. It is called with proxy.mu held.
func (l *link) isOpen() bool {
	return !l.closed && l.pumps[toBroker] != nil && !l.pumps[toBroker].hungUp
}

// cut resets both connections. It is called with proxy.mu held.
func (l *link) cut() {
	if l.closed {
		return
	}
	l.closed = true
	reset(l.client)
	if l.broker != nil {
		reset(l.broker)
	}
}

// closeIfAbandoned cuts a link if one peer has closed its side and no longer reads. It is called with proxy.mu held.
func (l *link) closeIfAbandoned() {
	for way, p := range l.pumps {
		if p.dstClosed && l.pumps[1-way].ended {
			l.cut()
		}
	}
}

// wake makes the pumps check for changes. It is called with proxy.mu held, after the version has changed.
func (l *link) wake() {
	for _, p := range l.pumps {
		if p != nil {
			p.wake()
		}
	}
}
