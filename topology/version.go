package topology

import (
	"cmp"
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
	major, minor     int
	known            bool // major is a number
}

func brokerOf(properties amqp.Table) (b broker) {
	b.product, _ = properties["product"].(string)
	b.version, _ = properties["version"].(string)
	major, rest, _ := strings.Cut(b.version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	var err error
	b.major, err = strconv.Atoi(major)
	b.known = err == nil
	b.minor, _ = strconv.Atoi(minor)
	return b
}

func (b broker) atLeast(major, minor int) bool {
	return b.known && (b.major > major || b.major == major && b.minor >= minor)
}

func (b broker) String() string {
	const most = 64 // of the broker's text
	s := strings.TrimSpace(b.product + " " + b.version)
	return cmp.Or(validate.Printable(s[:min(len(s), most)]), "an unknown broker")
}
