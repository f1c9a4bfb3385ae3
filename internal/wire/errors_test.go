package wire

import (
	"fmt"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestErrorClasses(t *testing.T) {
	broker := fmt.Errorf("declare: %w", &amqp.Error{Code: 404, Server: true})
	if Code(broker) != 404 || Code(&amqp.Error{Code: 501}) != 0 || Code(nil) != 0 {
		t.Error("Code tells the broker's code, and only the broker's")
	}
	if !IsClosed(fmt.Errorf("x: %w", amqp.ErrClosed)) || IsClosed(broker) {
		t.Error("IsClosed is of amqp.ErrClosed alone")
	}
}
