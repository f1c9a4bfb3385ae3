package amqptest

import (
	"net"
	"slices"
	"sync"
	"time"
)

// A link carries one client connection. Its two goroutines are the pumps, one for each direction; run owns them.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	order  sync.Mutex // held to write and to tell of it, by one direction at a time

	// Guarded by proxy.mu.
	Link
	broker *net.TCPConn // nil until it is dialled
	pumps  [2]*pump     // by direction; nil until then
	over   bool         // both sockets are closed
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
	p.journal.tell(Event{Kind: LinkOpened, At: time.Now(), Link: l.ID, Addr: l.client.RemoteAddr().String()})
	var wg sync.WaitGroup
	wg.Go(l.pumps[toClient].run)
	l.pumps[toBroker].run()
	wg.Wait()
	p.update(func() {
		l.over = true
		_ = l.client.Close() // after a FIN in both directions, or after cut
		_ = l.broker.Close()
	})
	p.journal.tell(Event{Kind: LinkClosed, At: time.Now(), Link: l.ID, Name: l.Name})
}

// start makes the pumps. If the link was cut meanwhile, they find that out.
func (l *link) start(broker *net.TCPConn) {
	known := &channels{byNumber: map[uint16]*channel{}}
	l.proxy.update(func() {
		l.broker = broker
		if l.over {
			reset(broker)
		}
		l.pumps = [2]*pump{
			newPump(l, FromClient, l.client, broker, known),
			newPump(l, FromBroker, broker, l.client, known),
		}
	})
}

// isOpen tells whether the client is connected to the broker, as far as is known. It is called with proxy.mu held.
func (l *link) isOpen() bool {
	return !l.over && l.pumps[toBroker] != nil && !l.pumps[toBroker].hungUp
}

// cut resets both connections. It is called with proxy.mu held.
func (l *link) cut() {
	if l.over {
		return
	}
	l.over = true
	reset(l.client)
	if l.broker != nil {
		reset(l.broker)
	}
}

// settle cuts a link of which one peer has left altogether: it closed its side, and takes nothing more either. It
// is called with proxy.mu held.
func (l *link) settle() {
	for way, p := range l.pumps {
		if p.deaf && l.pumps[1-way].ended {
			l.cut()
		}
	}
}

// wake makes the pumps look again. It is called with proxy.mu held, after the version has changed.
func (l *link) wake() {
	for _, p := range l.pumps {
		if p != nil {
			p.wake()
		}
	}
}
