package amqptest

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A Direction selects one or both directions of the bytes on a link.
type Direction int

// The directions.
const (
	FromClient     Direction = 1 << iota // bytes that clients send
	FromBroker                           // bytes that the broker sends
	BothDirections = FromClient | FromBroker
)

// ways returns the indexes of the directions.
func (d Direction) ways() []int {
	var ways []int
	if d&FromClient != 0 {
		ways = append(ways, toBroker)
	}
	if d&FromBroker != 0 {
		ways = append(ways, toClient)
	}
	return ways
}

// The indexes of the two directions.
const (
	toBroker = 0
	toClient = 1
)

// A Link is a client connection through a [Proxy], together with the proxy's connection to the broker.
type Link struct {
	// ID numbers the links of a Proxy from 1 in the order of their arrival.
	ID int

	// Name is the client's connection_name. It is empty until the client has sent it.
	Name string

	// Publishes is set once the client selects confirm mode or publishes. Consumes is set once it subscribes or calls
	// basic.get. They distinguish the two connections of an amqpkit.Conn.
	Publishes, Consumes bool
}

// Faults are the faults of all links of a [Proxy], which embeds them, or of the links selected by [Faults.ForLinks].
//
// Unless a method states otherwise, a fault affects open and future links until it is changed or removed with Clear.
// Bytes that the proxy has already received may still pass. Faults can be combined. If several selections match a link,
// a fault that is on in any of them is on, and the numbers of the last selection apply.
//
// All methods are safe for concurrent use.
type Faults struct {
	proxy *Proxy
	match func(Link) bool // nil selects all links

	// Guarded by proxy.mu.
	ways [2]plan // by direction
}

// ForLinks returns faults that affect only links for which match returns true. Keep the result to clear its faults
// later. match is called whenever more of a link becomes known: a fault for a named link starts when the client has
// sent its name, and a fault for publishers starts with the first frame that identifies one. match must return quickly
// and must not call the Proxy. Its calls are serialized.
func (f *Faults) ForLinks(match func(Link) bool) *Faults {
	outer := f.match
	return &Faults{proxy: f.proxy, match: func(l Link) bool { return (outer == nil || outer(l)) && match(l) }}
}

// Links returns the number of clients that are connected through to the broker. A client that hung up is still counted
// while Pause, or a broker that does not read, prevents the proxy from noticing.
func (f *Faults) Links() int {
	f.proxy.mu.Lock()
	defer f.proxy.mu.Unlock()
	return f.links()
}

// AwaitLinks waits until Links returns n. If ctx ends first, the error contains the last number.
func (f *Faults) AwaitLinks(ctx context.Context, n int) error {
	for {
		f.proxy.mu.Lock()
		now, changed := f.links(), f.proxy.changed
		f.proxy.mu.Unlock()
		if now == n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("amqptest: %d links are open, want %d: %w", now, n, context.Cause(ctx))
		}
	}
}

// Cut resets every link on both sides (RST), including clients whose connection to the broker is still being opened,
// and returns their number. Held and delayed bytes are lost. Future links and other faults are unaffected.
func (f *Faults) Cut() (n int) {
	f.proxy.update(func() {
		for _, l := range f.proxy.links {
			if !l.closed && f.matches(l.Link) {
				l.cut()
				n++
			}
		}
	})
	return n
}

// HalfClose permanently closes one direction of every open link and returns their number. The receiver reads the end of
// the stream (FIN), further bytes from the sender are discarded, and the other direction continues. Future links are
// unaffected.
func (f *Faults) HalfClose(d Direction) int {
	return f.forEach(func(l *link) {
		for _, way := range d.ways() {
			_ = l.pumps[way].dst.CloseWrite()
		}
	})
}

// Blackhole reads and discards everything from the next frame on, including the end of the stream, so that the receiver
// sees only silence. After Clear, forwarding continues with the next complete frame, but the discarded frames are
// missing. Not every peer can handle that; consider Cut.
func (f *Faults) Blackhole(d Direction) {
	f.set(d, func(w *plan) { w.blackhole = true })
}

// Pause stops reading, so that the sender experiences backpressure once the TCP buffers are full, like a peer that is
// alive but does not read. The end of the stream is not forwarded. After Clear everything is forwarded.
func (f *Faults) Pause(d Direction) {
	f.set(d, func(w *plan) { w.pause = true })
}

// Delay forwards everything later by the given duration, in order and at full bandwidth, with at most 16 MiB in
// transit. Zero disables it.
func (f *Faults) Delay(d Direction, by time.Duration) {
	f.set(d, func(w *plan) { w.delay = by })
}

// Throttle limits the forwarded bytes per second. The sender experiences backpressure. Zero disables it.
func (f *Faults) Throttle(d Direction, bytesPerSecond int) {
	f.set(d, func(w *plan) { w.rate = bytesPerSecond })
}

// Fragment forwards everything in writes of at most size bytes. Zero disables it.
func (f *Faults) Fragment(d Direction, size int) {
	f.set(d, func(w *plan) { w.fragment = size })
}

// CutAfter resets a link (RST on both sides) after n more bytes were forwarded in the direction, even inside a frame.
// It fires once, on the first link that reaches n. The count starts with this call, or later when the link is opened or
// first matches ForLinks. A reset also discards bytes in the TCP buffers: small frames before it usually arrive, but
// the end of more than about 10,000 unread bytes may not.
func (f *Faults) CutAfter(d Direction, n int64) {
	t := &trigger{after: n}
	f.set(d, func(w *plan) { w.limits = append(armed(w.limits), t) })
}

// A CutPoint is a position relative to a frame.
type CutPoint int

// The positions at which CutAt cuts.
const (
	BeforeFrame CutPoint = iota // the frame is not forwarded
	InsideFrame                 // half of the frame is forwarded
	AfterFrame                  // the whole frame is forwarded
)

// CutAt resets a link (RST on both sides) at a frame for which match returns true. It fires once, on the first link
// with such a frame. match must return quickly and must not keep the payload. Its calls are serialized. It does not see
// frames larger than 1 MiB. See CutAfter for the effect of a reset on bytes in transit.
//
//	proxy.CutAt(amqptest.FromBroker, amqptest.BeforeFrame, amqptest.IsConfirm) // stored, but not confirmed
func (f *Faults) CutAt(d Direction, at CutPoint, match func(Frame) bool) {
	t := &trigger{at: at, match: match}
	f.set(d, func(w *plan) { w.points = append(armed(w.points), t) })
}

// HoldConfirms delays basic.ack and basic.nack from the broker until ReleaseConfirms or Clear, which forward them in
// order. Everything else passes. Delayed confirms are reported as [ConfirmHeld].
func (f *Faults) HoldConfirms() {
	f.set(FromBroker, func(w *plan) { w.holdConfirms = true })
}

// ReleaseConfirms ends HoldConfirms and forwards the delayed confirms.
func (f *Faults) ReleaseConfirms() {
	f.set(FromBroker, func(w *plan) { w.holdConfirms = false })
}

// DropConfirms discards basic.ack and basic.nack from the broker while on is true and reports them as [ConfirmHeld]. A
// later ack with the multiple flag also confirms the earlier messages.
func (f *Faults) DropConfirms(on bool) {
	f.set(FromBroker, func(w *plan) { w.dropConfirms = on })
}

// Inject writes frames into every open link, contiguously and before the next frame in that direction, or at once if
// none is pending. It does not split the content of a message on the same channel. It returns the number of links.
// Injected frames are not reported as [Event]. Future links are unaffected.
func (f *Faults) Inject(d Direction, frames ...Frame) int {
	if len(frames) == 0 {
		return 0
	}
	var b []byte
	for _, frame := range frames {
		b = frame.appendTo(b)
	}
	return f.inject(d, insertion{bytes: b, channel: frames[0].Channel})
}

// InjectRaw is like Inject for arbitrary bytes, for example garbage.
func (f *Faults) InjectRaw(d Direction, b []byte) int {
	return f.inject(d, insertion{bytes: slices.Clone(b)})
}

func (f *Faults) inject(d Direction, p insertion) int {
	return f.forEach(func(l *link) {
		for _, way := range d.ways() {
			l.pumps[way].inbox = append(l.pumps[way].inbox, p)
		}
	})
}

// Clear removes the faults set through f; called on the Proxy, it removes all faults of all selections. Held and delayed
// bytes are forwarded at once. Redirect and RefuseConnections stay in effect.
func (f *Faults) Clear() {
	f.proxy.update(func() {
		f.ways = [2]plan{}
		if f == &f.proxy.Faults {
			for _, chosen := range f.proxy.selected {
				chosen.ways = [2]plan{}
			}
			f.proxy.selected = nil
		}
		f.proxy.selected = slices.DeleteFunc(f.proxy.selected, func(c *Faults) bool { return c == f })
	})
}

// set changes the faults of a direction.
func (f *Faults) set(d Direction, change func(*plan)) {
	f.proxy.update(func() {
		for _, way := range d.ways() {
			change(&f.ways[way])
		}
		if f != &f.proxy.Faults && !slices.Contains(f.proxy.selected, f) {
			f.proxy.selected = append(f.proxy.selected, f)
		}
	})
}

// forEach calls do with each link that is connected to the broker and returns their number.
func (f *Faults) forEach(do func(*link)) (n int) {
	f.proxy.update(func() {
		for _, l := range f.proxy.links {
			if l.pumps[toBroker] != nil && !l.closed && f.matches(l.Link) {
				do(l)
				n++
			}
		}
	})
	return n
}

// links implements Links. It is called with proxy.mu held.
func (f *Faults) links() (n int) {
	for _, l := range f.proxy.links {
		if l.isOpen() && f.matches(l.Link) {
			n++
		}
	}
	return n
}

// matches is called with proxy.mu held.
func (f *Faults) matches(l Link) bool { return f.match == nil || f.match(l) }
