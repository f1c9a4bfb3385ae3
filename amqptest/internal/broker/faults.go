package broker

import (
	"slices"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// faults are the active faults.
type faults struct {
	refuseLogins bool
	holdConfirms bool
	dropConfirms bool
	nackNext     int
	held         []confirmation
	reason       string
	intercept    func(*Request) bool
	unblocked    chan struct{} // open while publishers are blocked
}

// A confirmation is held until ReleaseConfirms.
type confirmation struct {
	ch  *channel
	seq uint64
	ok  bool
}

// dropChannel drops the held confirms of a closed channel.
func (f *faults) dropChannel(ch *channel) {
	f.held = slices.DeleteFunc(f.held, func(c confirmation) bool { return c.ch == ch })
}

// RefuseLogins makes every login fail while on is true.
func (b *Broker) RefuseLogins(on bool) { b.update(func() { b.faults.refuseLogins = on }) }

// HoldConfirms delays confirms until ReleaseConfirms.
func (b *Broker) HoldConfirms() { b.update(func() { b.faults.holdConfirms = true }) }

// ReleaseConfirms sends the held confirms, coalesced.
func (b *Broker) ReleaseConfirms() {
	b.update(func() {
		held := b.faults.held
		b.faults.holdConfirms, b.faults.held = false, nil
		for _, c := range held {
			c.ch.confirm(c.seq, c.ok)
		}
	})
}

// DropConfirms discards confirms while on is true.
func (b *Broker) DropConfirms(on bool) { b.update(func() { b.faults.dropConfirms = on }) }

// NackNext rejects the next n messages on channels in confirm mode.
func (b *Broker) NackNext(n int) { b.update(func() { b.faults.nackNext = n }) }

// Block blocks each publishing connection at its next message.
func (b *Broker) Block(reason string) {
	b.update(func() {
		b.faults.reason = reason
		if b.faults.unblocked == nil {
			b.faults.unblocked = make(chan struct{})
		}
	})
}

// Unblock ends Block.
func (b *Broker) Unblock() { b.update(b.unblock) }

func (b *Broker) unblock() {
	if b.faults.unblocked == nil {
		return
	}
	close(b.faults.unblocked)
	b.faults.unblocked = nil
	for c := range b.conns {
		if c.blockedSent && c.hasCapability("connection.blocked") {
			c.send(0, new(codec.ConnectionUnblocked))
		}
		c.blockedSent = false
	}
}

// DropConnections resets all connections and returns their number.
func (b *Broker) DropConnections() int {
	n := 0
	b.update(func() {
		for c := range b.conns {
			c.reset()
			n++
		}
	})
	return n
}

// CloseConnections closes the open connections for whose names match returns true, with a reply code and text. Nil matches all.
func (b *Broker) CloseConnections(match func(name string) bool, code int, text string) int {
	n := 0
	b.update(func() {
		for c := range b.conns {
			if (match == nil || match(c.name)) && c.vhost != nil && !c.closing && !c.finish {
				c.fail(0, 0, &exception{code: code, text: text, exact: true})
				n++
			}
		}
	})
	return n
}

// CloseChannels closes all open channels with a reply code and text.
func (b *Broker) CloseChannels(code int, text string) int {
	n := 0
	b.update(func() {
		for c := range b.conns {
			if c.closing || c.finish {
				continue
			}
			for _, ch := range c.channels {
				if ch.opened && !ch.closing {
					ch.fail(0, &exception{code: code, text: text, exact: true})
					n++
				}
			}
		}
	})
	return n
}

// CancelConsumers cancels the consumers of a queue, as if its node had failed, and returns their number.
func (b *Broker) CancelConsumers(vhost, name string) int {
	n := 0
	b.update(func() {
		q := b.queue(vhost, name)
		if q == nil {
			return
		}
		for _, c := range slices.Clone(q.consumers) {
			c.notifyCancelled()
			delete(c.ch.consumers, c.tag)
			c.remove()
			n++
		}
	})
	return n
}

// Advance moves the clock ahead and runs the timers that become due, in order.
func (b *Broker) Advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	target := b.clock.now().Add(d)
	for len(b.clock.heap.list) > 0 {
		at := b.clock.heap.list[0].at
		if at.After(target) {
			break
		}
		b.clock.ahead += max(0, at.Sub(b.clock.now()))
		b.begin()
		b.clock.run(b.now)
		b.settle()
	}
	b.clock.ahead += max(0, target.Sub(b.clock.now()))
	b.begin()
	b.settle()
}

// Now returns the clock's time.
func (b *Broker) Now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clock.now()
}
