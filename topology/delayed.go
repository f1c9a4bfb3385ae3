package topology

import (
	"cmp"
	"fmt"
	"time"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A DelayedRetry makes a quorum queue delay failed messages before it delivers them again. A delayed message stays in
// the queue, without holding up other messages. It needs RabbitMQ 4.3: older versions would ignore it, and
// [Topology.Declare] refuses it there with a [*amqperr.FieldError] that has Broker set.
//
// A message fails if its consumer rejects it with requeue: return consumer.RejectRequeue(err) from the handler. RabbitMQ also
// counts a lost connection as a failure of all its unacknowledged messages. The failure that exceeds DeliveryLimit
// dead-letters the message without a delay: set DeliveryLimit and DeadLetter, or RabbitMQ drops it after 20 redeliveries.
//
// Delayed messages are overtaken by others, also with SingleActiveConsumer. A message that expires while it is delayed
// is dead-lettered after the delay.
type DelayedRetry struct {
	// Min is the delay after the first failure. After n failures it is n times Min, up to Max. It is required: whole
	// milliseconds, at most ten years.
	Min time.Duration

	// Max is the longest delay: whole milliseconds, at most ten years. Zero means Min, so that all delays are equal. The
	// Type "returned" does not use it.
	Max time.Duration

	// Type selects the delayed messages: "failed"; "returned" (to the queue without a failure: basic.nack with requeue, as
	// consumer.Requeue does), which always wait for Min; or "all". Empty means "failed".
	Type string
}

func (d DelayedRetry) kind() string { return cmp.Or(d.Type, "failed") }

func (d DelayedRetry) max() time.Duration { return cmp.Or(d.Max, d.Min) }

// check finds values that RabbitMQ accepts and ignores.
func (d DelayedRetry) check(f *faults) {
	oneOf(f, ".DelayedRetry.Type", d.Type, "failed", "returned", "all")
	delay := func(field string, d time.Duration) {
		switch {
		case d == 0:
			f.add(field, "is required", "write a delay")
		case d < time.Millisecond || d%time.Millisecond != 0:
			f.add(field, d.String()+" is not a whole number of milliseconds above zero", "round it")
		case d > validate.MaxTimer:
			f.add(field, d.String()+" is more than ten years", "write a shorter delay")
		}
	}
	delay(".DelayedRetry.Min", d.Min)
	switch {
	case d.Max == 0:
	case d.Type == "returned":
		f.add(".DelayedRetry.Max", `is ignored with Type "returned": these messages always wait for Min`, `leave it zero, or use Type "all"`)
	default:
		delay(".DelayedRetry.Max", d.Max)
		if d.Max < d.Min {
			f.add(".DelayedRetry.Max", fmt.Sprintf("%v is shorter than Min", d.Max), "leave it zero for equal delays, or write at least "+d.Min.String())
		}
	}
}
