package amqptest

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A Direction is one of the two ways that bytes flow through a link, or both.
type Direction int

// What flows from whom.
const (
	FromClient     Direction = 1 << iota // what the client sends
	FromBroker                           // what the broker sends
	BothDirections = FromClient | FromBroker
)

// ways are the directions as indexes.
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

// The two ways as indexes.
const (
	toBroker = 0
	toClient = 1
)

// A Link is one client connection, with the connection to the broker that carries it on.
type Link struct {
	// ID counts the links of a Proxy from 1, in the order in which they came.
	ID int

	// Name is the connection_name of the client's properties, empty until it has sent them.
	Name string

	// Publishes is set once the client asks for confirms or publishes, Consumes once it subscribes or gets: what
	// tells the two connections of an amqpkit.Conn apart.
	Publishes, Consumes bool
}

// Faults are what goes wrong: with every link of a Proxy, which has these methods itself, or with those that
// [Faults.Only] chose.
//
// A fault stands until it is changed or ended by Resume, for the links that are open and for those that come
// later, unless its method says otherwise. What reaches the proxy after the call meets the fault; what was on its
// way already may still arrive. Faults can be combined. Where a narrower choice was made, its yes and its numbers
// win.
//
// All methods may be called by several goroutines at once.
type Faults struct {
	proxy *Proxy
	match func(Link) bool // nil: all

	// Guarded by proxy.mu.
	ways [2]plan // by direction
}

// Only returns the same faults for some of the links: those for which match is true. Keep what it returns to end
// them again. match is asked whenever something about a link becomes known, so a fault for links of a name begins
// when the client has told its name, and one for links that publish with the first frame that shows it. It must be
// quick, must not call the Proxy, and is called by one goroutine at a time.
func (f *Faults) ForLinks(match func(Link) bool) *Faults {
	outer := f.match
	return &Faults{proxy: f.proxy, match: func(l Link) bool { return (outer == nil || outer(l)) && match(l) }}
}

// Links returns how many client connections are open and carried on to the broker. A client that hung up is
// counted no more, except where Hold, or a broker that does not read, keeps the proxy from seeing it.
func (f *Faults) Links() int {
	f.proxy.mu.Lock()
	defer f.proxy.mu.Unlock()
	return f.links()
}

// AwaitLinks waits until Links is n. It returns an error that tells the last number when ctx ends before.
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
			return fmt.Errorf("amqptest: %d links are open, not %d: %w", now, n, context.Cause(ctx))
		}
	}
}

// Cut resets every link on both sides (RST) and returns how many, also of clients that are just being connected.
// What is held or delayed in them is lost. Later links are not concerned, and other faults stay as they are.
func (f *Faults) Cut() (n int) {
	f.proxy.update(func() {
		for _, l := range f.proxy.links {
			if !l.over && f.matches(l.Link) {
				l.cut()
				n++
			}
		}
	})
	return n
}

// HalfClose ends one way of every open link, at once and for good, and returns how many: the receiver reads the
// end of the stream (FIN), whatever the sender still sends is thrown away, and the other way goes on. Later links
// are not concerned.
func (f *Faults) HalfClose(d Direction) int {
	return f.forEach(func(l *link) {
		for _, way := range d.ways() {
			_ = l.pumps[way].dst.CloseWrite()
		}
	})
}

// Discard makes a black hole: what is sent is read and thrown away, from the next frame on, and a hang-up of the
// sender is not passed on. The receiver meets silence and has to notice by itself. After Resume a link goes on
// with the next whole frame; what was thrown away is gone, which not every peer takes well: Cut may be kinder.
func (f *Faults) Blackhole(d Direction) {
	f.ask(d, func(w *plan) { w.discard = true })
}

// Hold stops reading, so that the sender meets back-pressure once the TCP buffers between are full: the peer that
// is alive and does not listen. A hang-up of the sender is not passed on. After Resume all of it goes on.
func (f *Faults) Pause(d Direction) {
	f.ask(d, func(w *plan) { w.hold = true })
}

// Delay hands everything on that much later, in order and with full bandwidth, as long as no more than 16 MiB are
// on their way. Zero ends it.
func (f *Faults) Delay(d Direction, by time.Duration) {
	f.ask(d, func(w *plan) { w.delay = by })
}

// Throttle hands on that many bytes a second at most, evenly. The sender meets back-pressure. Zero ends it.
func (f *Faults) Throttle(d Direction, bytesPerSecond int) {
	f.ask(d, func(w *plan) { w.rate = bytesPerSecond })
}

// Fragment hands everything on in writes of at most that many bytes. Zero ends it.
func (f *Faults) Fragment(d Direction, size int) {
	f.ask(d, func(w *plan) { w.fragment = size })
}

// CutAfter resets a link (RST on both sides) when n more bytes have been handed on in that direction, wherever in
// a frame that is. It does so once, in the link that gets there first. A link's bytes count from this call, or
// from when the link is opened, or comes to be chosen by Only. A reset throws away what is in TCP's buffers: small
// frames before it arrive, but of more than some ten thousand bytes that the receiver has not read, the end may not.
func (f *Faults) CutAfter(d Direction, n int64) {
	t := &trigger{after: n}
	f.ask(d, func(w *plan) { w.limits = append(armed(w.limits), t) })
}

// A Point is a place relative to a frame.
type CutPoint int

// Where CutAt cuts.
const (
	BeforeFrame CutPoint = iota // nothing of the frame goes on
	InsideFrame                 // half of it
	AfterFrame                  // all of it
)

// CutAt resets a link (RST on both sides) at a frame for which match is true. It does so once, in the link in
// which such a frame comes first. match must be quick, must not keep the payload, and is called by one goroutine
// at a time. Frames of more than 1 MiB are not shown to it. What the reset does to bytes on their way is said at
// CutAfter.
//
//	proxy.CutAt(amqptest.FromBroker, amqptest.Before, amqptest.IsConfirm) // stored, and nobody knows
func (f *Faults) CutAt(d Direction, at CutPoint, match func(Frame) bool) {
	t := &trigger{at: at, match: match}
	f.ask(d, func(w *plan) { w.points = append(armed(w.points), t) })
}

// HoldConfirms keeps the broker's basic.ack and basic.nack back, until ReleaseConfirms or Resume hands them on in
// their order. Everything else passes: deliveries, returns, heartbeats. What is kept is reported as [ConfirmHeld].
func (f *Faults) HoldConfirms() {
	f.ask(FromBroker, func(w *plan) { w.holdConfirms = true })
}

// ReleaseConfirms ends HoldConfirms and hands on what it kept.
func (f *Faults) ReleaseConfirms() {
	f.ask(FromBroker, func(w *plan) { w.holdConfirms = false })
}

// DropConfirms throws the broker's basic.ack and basic.nack away, while it is on. What is thrown away is reported
// as [ConfirmHeld]. Note that a later ack with the multiple bit confirms all before it.
func (f *Faults) DropConfirms(on bool) {
	f.ask(FromBroker, func(w *plan) { w.dropConfirms = on })
}

// Inject writes frames into every open link, together, before the next frame that comes that way (or now), but not
// amid the content of a message on the same channel. It returns how many links. What the proxy injects is no
// [Event]. Later links are not concerned.
func (f *Faults) Inject(d Direction, frames ...Frame) int {
	if len(frames) == 0 {
		return 0
	}
	var b []byte
	for _, frame := range frames {
		b = frame.appendTo(b)
	}
	return f.inject(d, parcel{bytes: b, channel: frames[0].Channel})
}

// InjectRaw is Inject for bytes of any kind, such as garbage.
func (f *Faults) InjectRaw(d Direction, b []byte) int {
	return f.inject(d, parcel{bytes: slices.Clone(b)})
}

func (f *Faults) inject(d Direction, p parcel) int {
	return f.forEach(func(l *link) {
		for _, way := range d.ways() {
			l.pumps[way].inbox = append(l.pumps[way].inbox, p)
		}
	})
}

// Resume ends all faults that were asked for here; those of the Proxy itself end all there are. What was held or
// delayed goes on at once. Redirect and Refuse are not concerned.
func (f *Faults) Clear() {
	f.proxy.update(func() {
		f.ways = [2]plan{}
		if f == &f.proxy.Faults {
			for _, chosen := range f.proxy.chosen {
				chosen.ways = [2]plan{}
			}
			f.proxy.chosen = nil
		}
		f.proxy.chosen = slices.DeleteFunc(f.proxy.chosen, func(c *Faults) bool { return c == f })
	})
}

// ask changes what is asked for in a direction.
func (f *Faults) ask(d Direction, change func(*plan)) {
	f.proxy.update(func() {
		for _, way := range d.ways() {
			change(&f.ways[way])
		}
		if f != &f.proxy.Faults && !slices.Contains(f.proxy.chosen, f) {
			f.proxy.chosen = append(f.proxy.chosen, f)
		}
	})
}

// forEach calls do with the links that are carried on to the broker, and returns how many.
func (f *Faults) forEach(do func(*link)) (n int) {
	f.proxy.update(func() {
		for _, l := range f.proxy.links {
			if l.pumps[toBroker] != nil && !l.over && f.matches(l.Link) {
				do(l)
				n++
			}
		}
	})
	return n
}

// links counts what Links tells of. It is called with proxy.mu held.
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
