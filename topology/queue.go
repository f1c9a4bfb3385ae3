package topology

import (
	"fmt"
	"maps"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A QueueType determines how RabbitMQ stores a queue. The zero value means [Quorum].
type QueueType string

// The queue types of RabbitMQ (https://www.rabbitmq.com/docs/queues).
const (
	Quorum  QueueType = "quorum"  // replicated and always durable
	Classic QueueType = "classic" // on one node; may be transient, exclusive, auto-deleted or named by the broker
	Stream  QueueType = "stream"  // a replicated log that keeps consumed messages
)

// RejectPublish is the [Queue.Overflow] with which a full queue refuses new messages. Their publishers get a nack.
const RejectPublish = "reject-publish"

// AtLeastOnce is the [DeadLetter.Strategy] with which a quorum queue keeps a dead letter until its target has confirmed
// it (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering).
const AtLeastOnce = "at-least-once"

// Unlimited is a [Queue.DeliveryLimit] that is never reached, for RabbitMQ 4.0 and newer. Earlier versions have no limit
// by default and drop each message at its first redelivery if Unlimited is set: declaring it there is refused.
const Unlimited = -1

// rejectPublishDLX is for classic queues only.
const rejectPublishDLX = "reject-publish-dlx"

// A DeadLetter is the target of messages that were rejected, expired, dropped from a full queue or delivered too often.
// The zero value sends them through the default exchange with their own routing keys. A message that was published to
// the queue's name then returns to the queue, and RabbitMQ drops it unless it was rejected: see [Topology.Validate].
type DeadLetter struct {
	// Exchange receives dead letters. Empty is the default exchange, where RoutingKey names a queue. If the exchange or
	// that queue does not exist, RabbitMQ drops dead letters: [Topology.Declare] reports it.
	Exchange string

	// RoutingKey replaces the routing key of dead letters. Empty keeps it.
	RoutingKey string

	// Strategy is for quorum queues: "at-most-once", which loses dead letters that their target does not accept, or
	// [AtLeastOnce], which needs the Overflow [RejectPublish]. Empty leaves the choice to a policy or the broker, which
	// takes "at-most-once".
	Strategy string
}

// A Queue is a queue to declare. By default it is a durable quorum queue.
//
// A zero field sends no argument, so that a policy or the broker's default applies. If RabbitMQ gives zero a meaning (a TTL of
// 0), set it in Arguments. The type is always sent, because a virtual host can have another default type.
type Queue struct {
	// Name is at most 255 bytes of UTF-8 and does not begin with "amq.". If it is empty, the broker chooses a name: only for
	// an exclusive Classic queue, through [Queue.Declare].
	Name string

	// Type is how RabbitMQ stores the queue. Empty means Quorum.
	Type QueueType

	// Transient queues are deleted by a restart of the broker. Classic queues only. RabbitMQ may be configured to close the
	// connection that declares a transient queue without Exclusive.
	Transient bool

	// Exclusive queues belong to the declaring connection and are deleted when it closes. Classic queues only.
	Exclusive bool

	// AutoDelete deletes the queue with its last consumer. Classic queues only.
	AutoDelete bool

	// MessageTTL is how long a message may wait before it is dropped or dead-lettered: whole milliseconds, at most ten
	// years, not for streams. Zero means no limit.
	MessageTTL time.Duration

	// Expires is how long the queue may be unused before it is deleted: whole milliseconds, at most ten years, not for
	// streams. Zero means no limit.
	Expires time.Duration

	// MaxLength is the maximum number of messages, not for streams. Zero means no limit.
	MaxLength int64

	// MaxLengthBytes is the maximum size of all message bodies. Zero means no limit.
	MaxLengthBytes int64

	// Overflow selects the reaction of a full queue (https://www.rabbitmq.com/docs/maxlength): "drop-head" drops or dead-letters the
	// oldest messages, [RejectPublish] refuses new ones, and "reject-publish-dlx" (Classic queues only) also dead-letters
	// these. Empty leaves the choice to a policy or the broker, which takes "drop-head".
	Overflow string

	// MaxPriority is the highest priority of a Classic queue, 1 to 255. RabbitMQ recommends at most 5, because each priority
	// costs memory. Messages of higher priorities are delivered first; larger values in messages count as MaxPriority. Zero
	// means that the queue ignores priorities. Quorum queues have priorities without it: 32 since RabbitMQ 4.3, two
	// before.
	MaxPriority uint8

	// DeadLetter is the target of dead letters. Nil drops them.
	DeadLetter *DeadLetter

	// DeliveryLimit is how often a quorum queue redelivers a failed message before it becomes a dead letter: new(3) means
	// up to four deliveries, new(0) one, new(Unlimited) any number. Nil means the broker's default, 20 since RabbitMQ 4.0.
	// A queue whose dead letters return to it needs Unlimited, because RabbitMQ drops messages that the limit sent round.
	DeliveryLimit *int

	// DelayedRetry delays failed messages before they are delivered again. Quorum queues of RabbitMQ 4.3 or newer only. Nil
	// redelivers them at once.
	DelayedRetry *DelayedRetry

	// SingleActiveConsumer delivers to one consumer at a time; the others wait to replace it. Not for streams.
	SingleActiveConsumer bool

	// LeaderLocator is the node of a cluster on which the queue's leader is placed
	// (https://www.rabbitmq.com/docs/clustering#replica-placement): "client-local" is the node of this connection,
	// "balanced" a node with few leaders. Empty leaves the choice to the broker, which takes "client-local".
	LeaderLocator string

	// MaxAge is how long a stream keeps a message: whole seconds, at most ten years. Zero means no limit.
	MaxAge time.Duration

	// MaxSegmentBytes is the size of a stream's files. A stream deletes whole files only. Zero means the broker's default.
	MaxSegmentBytes int64

	// Arguments are sent unchanged, in addition to the fields above. RabbitMQ ignores unknown arguments, misspelt ones
	// included. [Topology.Validate] therefore refuses unknown names that begin with "x-" or resemble a known one.
	Arguments amqp.Table

	// AllowUnknownArguments sends unknown Arguments, such as the ones of a plugin or of a newer RabbitMQ.
	AllowUnknownArguments bool
}

// queueRequest holds the fields of queue.declare.
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

// attributes are the arguments and the other properties that RabbitMQ compares if the queue exists.
func (q Queue) attributes() amqp.Table {
	r := q.request()
	all := amqp.Table{"durable": r.durable, "auto_delete": r.autoDelete, "exclusive": r.exclusive}
	maps.Copy(all, r.args)
	return all
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
	set(q.MaxPriority != 0, "MaxPriority", "x-max-priority", int64(q.MaxPriority))
	if d := q.DeadLetter; d != nil {
		set(true, "DeadLetter", "x-dead-letter-exchange", d.Exchange)
		set(d.RoutingKey != "", "DeadLetter.RoutingKey", "x-dead-letter-routing-key", d.RoutingKey)
		set(d.Strategy != "", "DeadLetter.Strategy", "x-dead-letter-strategy", d.Strategy)
	}
	if q.DeliveryLimit != nil {
		set(true, "DeliveryLimit", "x-delivery-limit", int64(*q.DeliveryLimit))
	}
	if d := q.DelayedRetry; d != nil {
		set(true, "DelayedRetry", "x-delayed-retry-type", d.kind())
		set(true, "DelayedRetry.Min", "x-delayed-retry-min", d.Min.Milliseconds())
		set(true, "DelayedRetry.Max", "x-delayed-retry-max", d.max().Milliseconds())
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
	if q.DelayedRetry != nil {
		q.DelayedRetry.check(f)
	}
	q.checkArguments(f)
	q.checkOverflow(f)
}

// checkClassic finds attributes that only a classic queue can have.
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
		if _, ok := q.Arguments[a.key]; ok {
			f.both(a.key, a.field)
		}
		if part := strings.Contains(a.field, "DelayedRetry."); !part { // DelayedRetry itself is reported
			f.foreign("."+a.field, a.key, queueArguments[a.key].on, q.kind())
		}
	}
	checkArguments(f, q.Arguments, queueArguments, q.kind(), q.AllowUnknownArguments)
	if key := "x-dead-letter-routing-key"; q.Arguments[key] != nil && q.request().args["x-dead-letter-exchange"] == nil {
		f.add(raw(key), "RabbitMQ refuses it without a dead-letter exchange", "set DeadLetter")
	}
}

// checkOverflow finds settings that RabbitMQ accepts for a quorum queue and does not apply. It reports them in its log
// only.
func (q Queue) checkOverflow(f *faults) {
	if q.kind() != Quorum {
		return
	}
	args := q.request().args
	if args["x-overflow"] == rejectPublishDLX {
		f.add(".Overflow", "a quorum queue does not support reject-publish-dlx and drops its oldest messages instead", "use RejectPublish")
	}
	if args["x-dead-letter-strategy"] != AtLeastOnce {
		return
	}
	const at = ".DeadLetter.Strategy"
	if args["x-overflow"] != RejectPublish {
		f.add(at, "RabbitMQ replaces at-least-once by at-most-once unless a full queue refuses messages", "set Overflow: topology.RejectPublish")
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
	case d > validate.MaxTimer:
		f.add(field, d.String()+" is more than ten years", "leave it zero for no limit")
	}
}

func checkSize(f *faults, field string, n int64) {
	if n < 0 {
		f.add(field, fmt.Sprintf("%d is negative", n), "leave it zero for no limit")
	}
}
