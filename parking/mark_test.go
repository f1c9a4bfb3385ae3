package parking

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
)

func TestAMessageIsKnownAgainByAllButWhatRabbitMQCounts(t *testing.T) {
	of := func(headers amqp.Table) mark {
		return markOf(&consumer.Delivery{Delivery: amqp.Delivery{MessageId: "m", Headers: headers, Body: []byte("body")}})
	}
	first := of(amqp.Table{"tenant": "a", "n": int64(1), "x-death": []any{amqp.Table{"queue": "q"}}})
	if again := of(amqp.Table{"n": int64(1), "tenant": "a", "x-death": []any{amqp.Table{"queue": "q"}}, "x-acquired-count": int64(3), "x-delivery-count": int64(1)}); again != first {
		t.Error("the same message has another mark when it comes again")
	}
	if other := of(amqp.Table{"tenant": "b", "n": int64(1)}); other == first {
		t.Error("another message has the same mark")
	}
}
