package amqptest

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// An Event reports that the proxy has written the bytes of an AMQP method, with its content if there is any, to the receiver. If
// a reset follows at once, the receiver may still not get them. Discarded, held and injected frames cause no event, except that
// held or dropped confirms are reported as [ConfirmHeld].
type Event struct {
	// Kind states what happened.
	Kind Kind

	// From is the sender: FromClient or FromBroker, and zero for LinkOpened and LinkClosed.
	From Direction

	// At is the time when the proxy started to write the last bytes.
	At time.Time

	// Link is the ID of the [Link].
	Link int

	// Addr is the client's address as its LocalAddr returns it. It is set for LinkOpened only.
	Addr string

	// Name is the Name of the Link. It is empty until the client has sent it.
	Name string

	// Channel is the channel number, zero for events of the connection.
	Channel uint16

	// Tag is the delivery tag. For Published it is the number that the confirm will carry, counted per channel from 1 since
	// confirm.select, and zero without confirms.
	Tag uint64

	// Multiple is set if one frame settled or confirmed all tags up to one. Each of the messages has its own event.
	Multiple bool

	// UnknownTag is set if a settlement or confirm has a tag that was not outstanding: never sent on the channel, or already
	// settled.
	UnknownTag bool

	// Requeue is the requeue flag of Rejected and DeliveryNacked.
	Requeue bool

	// Redelivered is the redelivered flag of Delivered.
	Redelivered bool

	// MessageID is the message id of the message that was published, returned, delivered, confirmed or settled. It is known for
	// the latest 65,536 unsettled messages of each channel and direction.
	MessageID string

	// Queue is the queue of Subscribed.
	Queue string

	// ConsumerTag is the consumer tag of Subscribed, Cancelled and Delivered.
	ConsumerTag string

	// Exchange is the exchange of Published, Returned and Delivered.
	Exchange string

	// Key is the routing key of Published, Returned and Delivered.
	Key string

	// Code is the reply code of Returned, ChannelClosed and ConnectionClosed.
	Code int

	// Text is the reply text that belongs to Code, or the reason of Blocked.
	Text string
}

// A Kind is the kind of an [Event].
type Kind int

// The kinds of events and the frames that cause them.
const (
	LinkOpened       Kind = iota + 1 // the client is connected to the broker
	LinkClosed                       // both connections are closed
	ConnectionOpened                 // connection.open-ok
	ConnectionClosed                 // connection.close, by either side
	ChannelOpened                    // channel.open
	ChannelClosed                    // channel.close, by either side
	Blocked                          // connection.blocked
	Unblocked                        // connection.unblocked
	Published                        // basic.publish and its content
	Confirmed                        // basic.ack from the broker
	Nacked                           // basic.nack from the broker
	ConfirmHeld                      // basic.ack or basic.nack from the broker, delayed or dropped by the proxy
	Returned                         // basic.return and its content
	Subscribed                       // basic.consume
	Cancelled                        // basic.cancel, by either side
	Delivered                        // basic.deliver or basic.get-ok and its content
	Acked                            // basic.ack from the client
	Rejected                         // basic.reject
	DeliveryNacked                   // basic.nack from the client
)

var kindNames = [...]string{
	LinkOpened: "LinkOpened", LinkClosed: "LinkClosed",
	ConnectionOpened: "ConnectionOpened", ConnectionClosed: "ConnectionClosed",
	ChannelOpened: "ChannelOpened", ChannelClosed: "ChannelClosed",
	Blocked: "Blocked", Unblocked: "Unblocked",
	Published: "Published", Confirmed: "Confirmed", Nacked: "Nacked", ConfirmHeld: "ConfirmHeld", Returned: "Returned",
	Subscribed: "Subscribed", Cancelled: "Cancelled", Delivered: "Delivered",
	Acked: "Acked", Rejected: "Rejected", DeliveryNacked: "DeliveryNacked",
}

// String returns the name of the constant.
func (k Kind) String() string {
	if k > 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// maxSettlements is the number of events that Settlements returns.
const maxSettlements = 10_000

// A recorder passes events to Observe and Next and keeps the settlements.
type recorder struct {
	mu          sync.Mutex
	observer    func(Event)
	waiting     []waiter
	settlements []Event // oldest first, up to 2*maxSettlements
}

type waiter struct {
	match func(Event) bool
	found chan Event
}

// Observe calls f with every event from now on, one call at a time. Events of one direction of a link arrive in wire
// order, and causes precede effects: a delivery its settlement, a publish its confirm. f is called after the bytes were
// written, so the receiver may already have acted on them; use Next to wait for an event. The proxy forwards nothing
// while f runs, so f must return quickly. It may set faults, but must not call Observe, Next, Settlements or Close. Nil
// stops the observation.
func (p *Proxy) Observe(f func(Event)) {
	p.recorder.mu.Lock()
	defer p.recorder.mu.Unlock()
	p.recorder.observer = f
}

// Next returns a channel that receives the first event from now on for which match returns true. The restrictions of
// Observe apply to match.
//
//	stored := proxy.Next(func(e amqptest.Event) bool { return e.Kind == amqptest.ConfirmHeld })
//	// publish, and then:
//	<-stored // the broker has confirmed, but the client has not received it
func (p *Proxy) Next(match func(Event) bool) <-chan Event {
	p.recorder.mu.Lock()
	defer p.recorder.mu.Unlock()
	found := make(chan Event, 1)
	p.recorder.waiting = append(p.recorder.waiting, waiter{match, found})
	return found
}

// Settlements returns the latest 10,000 events of the kinds Acked, Rejected and DeliveryNacked, oldest first. Use
// Observe for more.
func (p *Proxy) Settlements() []Event {
	p.recorder.mu.Lock()
	defer p.recorder.mu.Unlock()
	all := p.recorder.settlements
	return slices.Clone(all[max(0, len(all)-maxSettlements):])
}

func (j *recorder) record(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.observer != nil {
		j.observer(e)
	}
	j.waiting = slices.DeleteFunc(j.waiting, func(w waiter) bool {
		if !w.match(e) {
			return false
		}
		w.found <- e
		return true
	})
	switch e.Kind {
	case Acked, Rejected, DeliveryNacked:
		if len(j.settlements) == 2*maxSettlements {
			j.settlements = append(j.settlements[:0], j.settlements[maxSettlements:]...)
		}
		j.settlements = append(j.settlements, e)
	}
}
