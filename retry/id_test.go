package retry_test

import (
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/retry"
)

// publishBare publishes without a message id.
func (b *bench) publishBare(msg amqp.Publishing) {
	b.t.Helper()
	b.onConnection(func(ac *amqp.Connection) error {
		ch, err := ac.Channel()
		if err != nil {
			return err
		}
		return errors.Join(ch.PublishWithContext(b.t.Context(), "", "orders", true, false, msg), ch.Close())
	})
}

func TestAMessageWithoutAnIDIsNotHandledAgainAfterARefusedMove(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(s).MaxAttempts(1)}, func(b *bench) {
		var got calls
		b.run(got.fail(errBoom))
		b.deleteQueue("orders.parked")
		b.publishBare(amqp.Publishing{Body: []byte("m")})
		b.held(time.Hour)
		if got.count() != 1 {
			t.Errorf("%d calls while the parking queue is missing, want 1", got.count())
		}
		b.declare()
		if b.parked(time.Minute); got.count() != 1 {
			t.Errorf("%d calls, want 1", got.count())
		}
	})
}
