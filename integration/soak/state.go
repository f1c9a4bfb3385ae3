package soak

import (
	"math"
	"slices"
)

// never is later than any time of a history.
const never = math.MaxInt64

// A state is the run, reconstructed from its records: published messages, their attempts on the wire, the answers of
// the broker, and their deliveries.
type state struct {
	run  Settings
	end  *End
	last int64 // time of the last record

	messages     map[string]*message // by ID
	order        []*message          // in the order of publishing
	unpublished  []*handling         // handled messages without a Publish record
	handledTwice []deliveryID        // deliveries passed to more than one handler
	traces       map[string]*trace   // by message id on the wire

	links          map[linkID]*link
	byClient       map[string][]*link // links with a known client
	delivered      map[deliveryID]*delivery
	handled        map[deliveryID]*handling
	stopped        map[string]bool   // stopped Runs of consumers
	tags           map[string]string // by Run: its newest consumer tag
	settles        []falseSettle
	protocolErrors []*Wire            // protocol errors for which the broker closed a channel or a connection
	answers        map[string][]int64 // by client: times of confirms and nacks
	arrivals       map[string][]int64 // by client: times of deliveries
	faults         []*fault           // ordered by start
	calls          []timed[Call]
	byAddr         map[string]*link // by local address of the client: its newest link
	samples        []timed[Sample]
	queues         []Queue
}

type timed[T any] struct {
	at int64
	v  T
}

type linkID struct{ node, link int }

// A link is a connection through a proxy.
type link struct {
	id           linkID
	client       string
	opened       int64
	closed       int64 // when either side closed it or it was lost; never while it is open
	lost         int64 // when the client or the proxy closed the socket, whichever came first
	clientClosed int64 // when the client closed its socket
	publishes    bool
	consumes     bool
	channels     map[uint16]*channel
}

// A channel is an AMQP channel of a link. A later channel may reuse its number.
type channel struct {
	link       *link
	ended      int64 // never while it is open
	published  int64 // time of the last publish
	unanswered map[uint64]*attempt
	deliveries map[uint64]*delivery
}

func (c *channel) end(at int64) { c.ended = min(c.ended, at) }

// A trace holds the publishes and deliveries with one message id.
type trace struct {
	attempts []*attempt // by its publisher
	moves    []*attempt // to wait and parking queues, and back to the own queue, by consumers that failed to handle it
	fresh    int        // deliveries without the redelivered flag, except from the parking queue and from queues with dead letters
	parked   int        // deliveries without the redelivered flag from the parking queue
}

// movesTo counts the moves to a queue.
func (t *trace) movesTo(queue string) int {
	n := 0
	for _, a := range t.moves {
		if a.key == queue {
			n++
		}
	}
	return n
}

// repeatedMoves counts the moves beyond the first one to each queue. Every move to the message's own queue counts.
func (t *trace) repeatedMoves(own string) int {
	queues := map[string]bool{}
	for _, a := range t.moves {
		if a.key != own {
			queues[a.key] = true
		}
	}
	return len(t.moves) - len(queues)
}

// An attempt is one basic.publish that a proxy forwarded.
type attempt struct {
	at       int64 // when it was forwarded, at most the time when the client closed its socket
	ch       *channel
	returned int64 // when its basic.return was forwarded; 0 if it was not
	answered int64 // when its confirm or nack was forwarded; 0 if it was not
	acked    bool
	key      string // routing key
	matched  bool   // moves only: one acknowledged delivery was attributed to it
}

// reached reports whether the client must have read the answer, because the channel stayed open for longer than slack.
func (a *attempt) reached(slack int64) bool {
	return a.answered > 0 && a.ch.ended-slack > a.answered
}

type delivery struct {
	at       int64
	ch       *channel
	consumer string
	settled  bool
}

// A deliveryID is unique because consumer tags are.
type deliveryID struct {
	consumer string
	tag      uint64
}

// A message is a published message with its outcome and its deliveries.
type message struct {
	Publish
	at       int64 // time of the publish
	resolved int64 // time of the outcome
	outcome  *Outcome
	outcomes int
	handled  []*handling // ordered by start
	tries    []timed[Try]
	trace    *trace
}

// messageID returns the message id on the wire.
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

// concerns reports whether the fault affects the links of a client.
func (f *fault) concerns(client string) bool { return slices.Contains(f.Clients, client) }
