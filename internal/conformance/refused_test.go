package conformance

import (
	"context"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
)

// amqptest refuses features of RabbitMQ 4.3 that it does not support. The error names amqptest, so that no test passes
// because amqptest silently ignored a feature.
func TestAmqptestRefusesUnsupportedFeatures(t *testing.T) {
	declare := func(kind string) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare("q", true, false, false, false, amqp.Table{"x-queue-type": kind})
			return err
		}
	}
	exchange := func(kind string) func(*amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			return ch.ExchangeDeclare("x", kind, true, false, false, false, nil)
		}
	}
	for what, try := range map[string]func(*amqp.Channel) error{
		"streams":                          declare("stream"),
		"exchanges of type x-local-random": exchange("x-local-random"),
		"exchanges of type x-modulus-hash": exchange("x-modulus-hash"),
	} {
		t.Run(what, func(t *testing.T) {
			s := &Script{tb: t, ctx: context.Background(), broker: Broker{URL: amqptest.Start(t).URL()}, suffix: "~"}
			s.Try("refused", func(ch *Channel) error { return try(ch.Channel) })
			if got := s.lines.String(); !strings.HasPrefix(got, "refused: connection closed: 540 NOT_IMPLEMENTED - amqptest: ") {
				t.Errorf("%s", got)
			}
		})
	}
}
