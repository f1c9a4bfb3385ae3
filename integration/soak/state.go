package soak

import (
	"math"
	"slices"
)

// never is later than everything.
const never = math.MaxInt64

// A story is what the records of a run tell, put together: who published what, which of it went over the wire, what
// the broker answered, who handled it.
type state struct {
	run  Settings
	end  *End
	last int64 // when the last record was

	messages map[string]*message // by ID
	order    []*message          // as published
	unpublished  []*handling         // of messages that nobody published
	handledTwice    []deliveryID        // deliveries that two handlers got
	traces   map[string]*trace   // by message id

	links     map[linkID]*link
	byClient  map[string][]*link // those whose client is known
	delivered map[deliveryID]*delivery
	handled   map[deliveryID]*handling
	stopped   map[string]bool   // the Runs of consumers that were told to end
	tags      map[string]string // by Run: the tag of its newest subscription
	settles   []falseSettle
	protocolErrors    []*Wire            // channels and connections that the broker closed over what it was sent
	answers   map[string][]int64 // by client: when the broker answered a publish
	arrivals  map[string][]int64 // by client: when a delivery came
	faults    []*fault           // in the order of their beginning
	calls     []timed[Call]
	byAddr    map[string]*link // the newest from a client's address
	samples   []timed[Sample]
	queues    []Queue
}

type timed[T any] struct {
	at int64
	v  T
}

type linkID struct{ node, link int }

// A link is a connection through a proxy.
type link struct {
	id        linkID
	client    string
	opened    int64
	closed    int64 // when either side said so, or it was lost without; never, while it stands
	lost      int64 // when the client closed its socket, or the proxy the link, whichever was first
	clientClosed      int64 // when the client closed its socket
	publishes bool
	consumes  bool
	channels  map[uint16]*channel
}

// A channel is one of a link; a later one may have its number.
type channel struct {
	link       *link
	ended      int64 // never, while it stands
	published  int64 // when the client last published on it
	unanswered map[uint64]*attempt
	deliveries map[uint64]*delivery
}

func (c *channel) end(at int64) { c.ended = min(c.ended, at) }

// A trace is what went over the wire under one message id.
type trace struct {
	attempts []*attempt // its publisher's
	moves     []*attempt // to its wait and parking queues, by those who failed to handle it
	fresh    int        // deliveries from queues other than those of dead letters, not marked as redelivered
	parked   int        // the same from the parking queue
}

// hopsTo counts the hops to a queue.
func (t *trace) movesTo(queue string) int {
	n := 0
	for _, a := range t.moves {
		if a.key == queue {
			n++
		}
	}
	return n
}

// repeats counts the hops besides the first to each queue but its own.
func (t *trace) repeatedMoves(own string) int {
	queues := map[string]bool{}
	for _, a := range t.moves {
		if a.key != own {
			queues[a.key] = true
		}
	}
	return len(t.moves) - len(queues)
}

// An attempt is a message handed on to the broker.
type attempt struct {
	at       int64 // when it was, but no later than the client hung up
	ch       *channel
	returned int64 // when basic.return was handed on to the client; 0: it was not
	answered int64 // when its confirm was; 0: it was not
	acked    bool
	key      string // routing key
	matched    bool   // of a hop: a delivery was acknowledged for it
}

// reached reports whether the client must have read the answer: the channel outlived it by the slack.
func (a *attempt) reached(slack int64) bool {
	return a.answered > 0 && a.ch.ended-slack > a.answered
}

type delivery struct {
	at       int64
	ch       *channel
	consumer string
	settled  bool
}

// A deliveryID is unique: no two subscriptions have the same tag.
type deliveryID struct {
	consumer string
	tag      uint64
}

// A message is one that was published, with what became of it.
type message struct {
	Publish
	at       int64 // when it was published
	resolved     int64 // when its publisher was told
	outcome  *Outcome
	outcomes int
	handled  []*handling // in the order of their beginning
	tries    []timed[Try]
	trace    *trace
}

// messageID is what it carries on the wire.
func (m *message) messageID() string {
	if m.outcome != nil && m.outcome.MessageID != "" {
		return m.outcome.MessageID
	}
	return m.ID
}

func (m *message) is(what string) bool { return m.outcome != nil && m.outcome.What == what }

func (m *message) processed() bool {
	return slices.ContainsFunc(m.handled, func(h *handling) bool { return h.Result == OK })
}

type handling struct {
	Handled
	at int64
}

type falseSettle struct {
	at  int64
	why string
}

type fault struct {
	Fault
	from, to int64
}

// concerns reports whether the fault is about the links of a client.
func (f *fault) concerns(client string) bool { return slices.Contains(f.Clients, client) }
