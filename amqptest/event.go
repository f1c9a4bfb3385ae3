package amqptest

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// An Event is something that happened on the wire: the proxy has written all its bytes to the other side (where a
// reset that follows at once may still outrun them). There is no event for what was discarded, held, cut off or
// injected; for confirms that do not go on there is ConfirmHeld. A message is one event, when the last byte of its body
// is written.
type Event struct {
	Kind Kind
	From Direction // who sent it: FromClient or FromBroker; zero for Opened and Lost

	// At is when the proxy began to write the end of it.
	At time.Time

	Link    int    // Link.ID
	Addr    string // of Opened: the client's address, as its LocalAddr has it
	Name    string // Link.Name, as far as known
	Channel uint16

	// Tag is the delivery tag. For Published it is the number that a confirm will carry: publishes of the channel
	// count from 1 since confirm.select, and are 0 without.
	Tag uint64

	// Multiple tells that the frame settled all up to a tag. There is one event for each message settled.
	Multiple bool

	// Stray is set in a settlement or confirm of a tag that was not outstanding: never sent on that channel, or
	// settled before.
	UnknownTag bool

	Requeue     bool
	Redelivered bool

	// MessageID is the property of the message published, returned or delivered, and of the one that is confirmed
	// or settled. The newest 65,536 unsettled ones of each channel and direction are known.
	MessageID string

	Queue       string // of Subscribed
	ConsumerTag string
	Exchange    string
	Key         string

	Code int    // reply code of Returned, ChannelClosed, ConnectionClosed
	Text string // its text; the reason of Blocked
}

// A Kind is a kind of Event.
type Kind int

// The kinds of events, with the frames behind them.
const (
	LinkOpened       Kind = iota + 1 // a link, to the broker and back
	LinkClosed                       // a link, whatever the reason
	ConnectionOpened                 // connection.open-ok
	ConnectionClosed                 // connection.close, by either side
	ChannelOpened                    // channel.open
	ChannelClosed                    // channel.close, by either side
	Blocked                          // connection.blocked
	Unblocked                        // connection.unblocked
	Published                        // basic.publish and its content
	Confirmed                        // basic.ack from the broker
	Nacked                           // basic.nack from the broker
	ConfirmHeld                      // either of them, kept back or thrown away by the proxy
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

// maxSettlements is how many Settlements returns at most.
const maxSettlements = 10_000

// A journal tells events to those who want to know.
type journal struct {
	mu          sync.Mutex
	observer    func(Event)
	waiting     []waiter
	settlements []Event // the newest, up to twice as many as are told of
}

type waiter struct {
	match func(Event) bool
	found chan Event
}

// Observe has every event from now on told to f, by one goroutine at a time. On each link the events of one direction
// come in the order of the wire, and causes before effects: a delivery before its settlement, a publish before its
// confirm. What a peer receives is told when it has been written, so the peer may be a moment ahead: use Next to wait
// for an event. While f runs nothing passes: it must be quick. It may make faults, but must not call Observe, Next,
// Settlements or Close. Nil ends it.
func (p *Proxy) Observe(f func(Event)) {
	p.journal.mu.Lock()
	defer p.journal.mu.Unlock()
	p.journal.observer = f
}

// Next returns a channel that gets the first event from now on for which match is true. For match the rules are
// those of Observe.
//
//	stored := proxy.Next(func(e amqptest.Event) bool { return e.Kind == amqptest.ConfirmHeld })
//	// publish, and then:
//	<-stored // the broker has confirmed what the client still waits for
func (p *Proxy) Next(match func(Event) bool) <-chan Event {
	p.journal.mu.Lock()
	defer p.journal.mu.Unlock()
	found := make(chan Event, 1)
	p.journal.waiting = append(p.journal.waiting, waiter{match, found})
	return found
}

// Settlements returns what clients have settled: the newest 10,000 events of the kinds Acked, Rejected and
// DeliveryNacked, oldest first. What makes more uses Observe.
func (p *Proxy) Settlements() []Event {
	p.journal.mu.Lock()
	defer p.journal.mu.Unlock()
	all := p.journal.settlements
	return slices.Clone(all[max(0, len(all)-maxSettlements):])
}

func (j *journal) tell(e Event) {
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
