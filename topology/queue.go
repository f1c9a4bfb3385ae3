package topology

import (
	"fmt"
	"maps"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A QueueType is how RabbitMQ keeps a queue. The zero value means [Quorum].
type QueueType string

// The queue types of RabbitMQ (https://www.rabbitmq.com/docs/queues).
const (
	Quorum  QueueType = "quorum"  // replicated and always durable
	Classic QueueType = "classic" // on one node; may be transient, exclusive, auto-deleted or named by the broker
	Stream  QueueType = "stream"  // a replicated log that keeps what was consumed
)

// RejectPublish is the [Queue.Overflow] that makes a full queue refuse new messages: their publishers get a nack.
const RejectPublish = "reject-publish"

// AtLeastOnce is the [DeadLetter.Strategy] that makes a quorum queue keep a dead letter until its target has confirmed
// it.
const AtLeastOnce = "at-least-once"

// rejectPublishDLX is for classic queues only.
const rejectPublishDLX = "reject-publish-dlx"

// Unlimited is a [Queue.DeliveryLimit] without end, for RabbitMQ 4.0 and newer. Before, no
// limit was the default, and the broker took this for a limit that every redelivery exceeds:
// declaring it there is refused.
const Unlimited = -1

// maxDuration is RabbitMQ's limit on its timers, about ten years.
const maxDuration = 315_360_000_000 * time.Millisecond

// A DeadLetter says where messages go that were rejected, expired, pushed out of a full
// queue or delivered too often. The zero value sends them through the default exchange with
// the routing keys that they came with. A message that was published to the queue's name then returns to the queue,
// and RabbitMQ drops it unless it was rejected: see [Topology.Validate].
type DeadLetter struct {
	// Exchange gets them. Empty is the default exchange, where RoutingKey names a queue. If the exchange or that
	// queue does not exist, RabbitMQ drops them: [Topology.Declare] reports it.
	Exchange string

	// RoutingKey replaces theirs. Empty keeps it.
	RoutingKey string

	// Strategy is for quorum queues.
	Strategy string
}

// A Queue is to be declared. It is a durable quorum queue unless it says otherwise.
//
// A zero field sends nothing, so that the broker's default or a policy applies; where zero
// is a value of its own to RabbitMQ (a TTL of 0), put it into Arguments. The type alone is
// always sent, because the default type of a virtual host can be changed.
type Queue struct {
	// Name is at most 255 bytes of UTF-8 and does not begin with "amq.". Empty lets the
	// broker choose one: only for an exclusive Classic queue, through [Queue.Declare].
	Name string

	// Type is Quorum when empty.
	Type QueueType

	// These are for Classic queues. RabbitMQ may be configured to close the connection
	// of who declares a queue that is transient and not exclusive.
	Transient  bool // gone after a restart of the broker
	Exclusive  bool // used by the declaring connection alone, and deleted with it
	AutoDelete bool // deleted with its last consumer

	// MessageTTL is how long a message may wait before it is dropped or dead-lettered,
	// Expires how long the queue may be unused before it is deleted. Zero means for ever.
	// Both are whole milliseconds, at most ten years, and not for streams.
	MessageTTL time.Duration
	Expires    time.Duration

	// MaxLength and MaxLengthBytes (of message bodies) bound what the queue holds. Zero
	// means no bound. A stream takes MaxLengthBytes only.
	MaxLength      int64
	MaxLengthBytes int64

	// Overflow is what the queue does when it is full. Empty lets the broker choose.
	Overflow string

	// DeadLetter is where dead letters go. Nil drops them.
	DeadLetter *DeadLetter

	// DeliveryLimit is how often a quorum queue gives a message back to its consumers before
	// it becomes a dead letter: new(3) means up to four deliveries, new(0) one,
	// new(Unlimited) any number. Nil means the broker's default, 20 since RabbitMQ 4.0. A queue whose
	// dead letters return to it needs Unlimited: RabbitMQ drops those that the limit sent.
	DeliveryLimit *int

	// SingleActiveConsumer lets one consumer at a time have messages; the others wait to
	// take over.
	SingleActiveConsumer bool

	// LeaderLocator is where in a cluster the queue's leader goes. Empty lets the broker choose.
	LeaderLocator string

	// MaxAge is how long a stream keeps a message, in whole seconds, at most ten years;
	// MaxSegmentBytes is the size of its files, of which only whole ones are removed. Zero
	// means for ever, and the broker's default.
	MaxAge          time.Duration
	MaxSegmentBytes int64

	// Arguments are sent as they are, besides the fields above. RabbitMQ ignores arguments
	// that it does not know, typing errors too. So [Topology.Validate] refuses names that
	// begin with "x-" or are nearly right and that amqpkit does not know, unless
	// AllowUnknownArguments says that they are meant (a plugin's, or a newer RabbitMQ's).
	Arguments             amqp.Table
	AllowUnknownArguments bool
}

// queueRequest is what goes over the wire.
type queueRequest struct {
	name                           string
	durable, autoDelete, exclusive bool
	args                           amqp.Table
}

func (q Queue) request() queueRequest {
	args := amqp.Table{}
	maps.Copy(args, validate.Arguments(q.Arguments))
	for _, a := range q.typed() {
		args[a.key] = a.value
	}
	return queueRequest{q.Name, !q.Transient, q.AutoDelete, q.Exclusive, args}
}

func (q Queue) kind() QueueType {
	if q.Type == "" {
		return Quorum
	}
	return q.Type
}

// typed returns the arguments that fields of q set.
func (q Queue) typed() []argument {
	args := []argument{{"Type", "x-queue-type", string(q.kind())}}
	set := func(is bool, field, key string, value any) {
		if is {
			args = append(args, argument{field, key, value})
		}
	}
	set(q.MessageTTL != 0, "MessageTTL", "x-message-ttl", q.MessageTTL.Milliseconds())
	set(q.Expires != 0, "Expires", "x-expires", q.Expires.Milliseconds())
	set(q.MaxLength != 0, "MaxLength", "x-max-length", q.MaxLength)
	set(q.MaxLengthBytes != 0, "MaxLengthBytes", "x-max-length-bytes", q.MaxLengthBytes)
	set(q.Overflow != "", "Overflow", "x-overflow", q.Overflow)
	if d := q.DeadLetter; d != nil {
		set(true, "DeadLetter", "x-dead-letter-exchange", d.Exchange)
		set(d.RoutingKey != "", "DeadLetter.RoutingKey", "x-dead-letter-routing-key", d.RoutingKey)
		set(d.Strategy != "", "DeadLetter.Strategy", "x-dead-letter-strategy", d.Strategy)
	}
	if q.DeliveryLimit != nil {
		set(true, "DeliveryLimit", "x-delivery-limit", int64(*q.DeliveryLimit))
	}
	set(q.SingleActiveConsumer, "SingleActiveConsumer", "x-single-active-consumer", true)
	set(q.LeaderLocator != "", "LeaderLocator", "x-queue-leader-locator", q.LeaderLocator)
	set(q.MaxAge != 0, "MaxAge", "x-max-age", fmt.Sprintf("%ds", q.MaxAge/time.Second))
	set(q.MaxSegmentBytes != 0, "MaxSegmentBytes", "x-stream-max-segment-size-bytes", q.MaxSegmentBytes)
	return args
}

func (q Queue) check(f *faults) {
	f.own(q.Name, "choose another name")
	oneOf(f, ".Type", q.Type, Quorum, Classic, Stream)
	switch q.kind() {
	case Quorum, Stream:
		q.checkClassic(f)
	}
	checkDuration(f, ".MessageTTL", q.MessageTTL, time.Millisecond)
	checkDuration(f, ".Expires", q.Expires, time.Millisecond)
	checkDuration(f, ".MaxAge", q.MaxAge, time.Second)
	checkSize(f, ".MaxLength", q.MaxLength)
	checkSize(f, ".MaxLengthBytes", q.MaxLengthBytes)
	checkSize(f, ".MaxSegmentBytes", q.MaxSegmentBytes)
	oneOf(f, ".Overflow", q.Overflow, "drop-head", RejectPublish, rejectPublishDLX)
	oneOf(f, ".LeaderLocator", q.LeaderLocator, "client-local", "balanced")
	if q.DeliveryLimit != nil && *q.DeliveryLimit < Unlimited {
		f.add(".DeliveryLimit", fmt.Sprintf("%d is negative", *q.DeliveryLimit), "write new(topology.Unlimited) for no limit")
	}
	if d := q.DeadLetter; d != nil {
		f.found(".DeadLetter.Exchange", validate.Name(d.Exchange))
		f.found(".DeadLetter.RoutingKey", validate.Name(d.RoutingKey))
		oneOf(f, ".DeadLetter.Strategy", d.Strategy, "at-most-once", AtLeastOnce)
	}
	q.checkArguments(f)
	q.checkOverflow(f)
}

// checkClassic finds what only a classic queue can be.
func (q Queue) checkClassic(f *faults) {
	for _, p := range []struct {
		set   bool
		field string
	}{{q.Transient, ".Transient"}, {q.Exclusive, ".Exclusive"}, {q.AutoDelete, ".AutoDelete"}} {
		if p.set {
			f.add(p.field, "RabbitMQ refuses it on a "+string(q.kind())+" queue", "set Type: topology.Classic, or leave it out")
		}
	}
}

func (q Queue) checkArguments(f *faults) {
	f.found(".Arguments", validate.Table(q.Arguments))
	for _, a := range q.typed() {
		f.foreign("."+a.field, a.key, queueArguments[a.key].on, q.kind())
		if _, ok := q.Arguments[a.key]; ok {
			f.both(a.key, a.field)
		}
	}
	checkArguments(f, q.Arguments, queueArguments, q.kind(), q.AllowUnknownArguments)
	if key := "x-dead-letter-routing-key"; q.Arguments[key] != nil && q.request().args["x-dead-letter-exchange"] == nil {
		f.add(raw(key), "RabbitMQ refuses it without a dead-letter exchange", "set DeadLetter")
	}
}

// checkOverflow finds the settings that RabbitMQ takes from a quorum queue and then does not
// follow, with no more than a line in its log.
func (q Queue) checkOverflow(f *faults) {
	if q.kind() != Quorum {
		return
	}
	args := q.request().args
	if args["x-overflow"] == rejectPublishDLX {
		f.add(".Overflow", "a quorum queue does not know reject-publish-dlx and drops its oldest messages instead", "use RejectPublish")
	}
	if args["x-dead-letter-strategy"] != AtLeastOnce {
		return
	}
	const at = ".DeadLetter.Strategy"
	if args["x-overflow"] != RejectPublish {
		f.add(at, "at-least-once falls back to at-most-once unless the queue refuses what it cannot hold", "set Overflow: topology.RejectPublish")
	}
	if _, ok := args["x-dead-letter-exchange"]; !ok {
		f.add(at, "at-least-once has no effect without a dead-letter exchange", "set DeadLetter")
	}
}

func checkDuration(f *faults, field string, d, unit time.Duration) {
	switch {
	case d < 0:
		f.add(field, d.String()+" is negative", "leave it zero for no limit")
	case d%unit != 0:
		f.add(field, fmt.Sprintf("%v is not a multiple of %v", d, unit), "round it")
	case d > maxDuration:
		f.add(field, d.String()+" is more than ten years", "leave it zero for no limit")
	}
}

func checkSize(f *faults, field string, n int64) {
	if n < 0 {
		f.add(field, fmt.Sprintf("%d is negative", n), "leave it zero for no limit")
	}
}
