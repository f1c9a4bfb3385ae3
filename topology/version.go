package topology

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// checkVersion finds fields of q that the broker would ignore or misunderstand, because of its version.
func (q Queue) checkVersion(f *faults, ac *amqp.Connection) {
	unlimited := q.DeliveryLimit != nil && *q.DeliveryLimit == Unlimited
	if !unlimited && q.DelayedRetry == nil {
		return
	}
	b := brokerOf(ac.Properties)
	refuse := func(field, problem, fix string) {
		f.errs = append(f.errs, &amqperr.FieldError{Package: "topology", Field: f.at + field, Problem: problem, Fix: fix, Broker: cmp.Or(b.version, "unknown")})
	}
	if unlimited && b.known && !b.atLeast(4, 0) {
		refuse(".DeliveryLimit", "RabbitMQ before 4.0 drops each message at its first redelivery if it is Unlimited, and this is "+b.String(),
			"upgrade that node, or leave it out: before 4.0 there is no limit by default")
	}
	if q.DelayedRetry != nil && (b.product != "RabbitMQ" || !b.atLeast(4, 3)) {
		refuse(".DelayedRetry", "RabbitMQ ignores it before 4.3, and this is "+b.String(),
			"upgrade that node, or leave it out and use package retry, whose wait queues work with RabbitMQ 4.0")
	}
}

// broker is the product and version that a broker reports.
type broker struct {
	product, version string
	number           [3]int // major, minor and patch
	known            bool   // major is a number
}

func brokerOf(properties amqp.Table) (b broker) {
	b.product, _ = properties["product"].(string)
	b.version, _ = properties["version"].(string)
	parts := strings.SplitN(b.version, ".", len(b.number)+1)
	for i := range min(len(parts), len(b.number)) {
		digits, _, _ := strings.Cut(parts[i], "-") // of "4.3.0-rc.1"
		n, err := strconv.Atoi(digits)
		b.number[i] = n
		b.known = b.known || i == 0 && err == nil
	}
	return b
}

// atLeast compares with a version, such as 4, 3.
func (b broker) atLeast(version ...int) bool {
	return b.known && slices.Compare(b.number[:], version) >= 0
}

func (b broker) String() string {
	const most = 64 // of the broker's text
	s := strings.TrimSpace(b.product + " " + b.version)
	return cmp.Or(validate.Printable(s[:min(len(s), most)]), "an unknown broker")
}
