package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
)

func handle(context.Context, *sql.Tx, *consumer.Delivery) error        { return nil }
func handleBatch(context.Context, *sql.Tx, []*consumer.Delivery) error { return nil }

func TestEveryInvalidFieldIsReported(t *testing.T) {
	wrong := inbox.Config{Dialect: "postgres", Table: "a b", Consumer: strings.Repeat("x", 256), Retention: -1}
	_, handlerErr := inbox.Handler(nil, wrong, nil)
	_, batchErr := inbox.Batch(nil, wrong, 0, 0, nil)
	_, schemaErr := inbox.Schema(wrong)
	_, cleanErr := inbox.Clean(t.Context(), nil, wrong)
	config := []string{"Dialect", "Table", "Consumer", "Retention"}
	for name, c := range map[string]struct {
		err    error
		fields []string
	}{
		"Handler": {handlerErr, append([]string{"db", "f"}, config...)},
		"Batch":   {batchErr, append([]string{"db", "f", "size, wait"}, config...)},
		"Schema":  {schemaErr, config},
		"Create":  {inbox.Create(t.Context(), nil, wrong), append([]string{"db"}, config...)},
		"Clean":   {cleanErr, append([]string{"db"}, config...)},
		"Run":     {inbox.Run(t.Context(), nil, wrong), append([]string{"db"}, config...)},
	} {
		var joined interface{ Unwrap() []error }
		if !errors.As(c.err, &joined) {
			t.Errorf("%s: %v", name, c.err)
			continue
		}
		var fields []string
		for _, err := range joined.Unwrap() {
			var fault *amqperr.FieldError
			if !errors.As(err, &fault) || fault.Package != "inbox" {
				t.Errorf("%s: %v", name, err)
				continue
			}
			fields = append(fields, fault.Field)
		}
		if got, want := strings.Join(fields, " "), strings.Join(c.fields, " "); got != want {
			t.Errorf("%s: faults in %s, want %s", name, got, want)
		}
	}
	if _, err := inbox.Batch(&sql.DB{}, inbox.Config{Dialect: "sqlite"}, 10, time.Second, handleBatch); err != nil {
		t.Error(err)
	}
}

func TestAMessageWithoutAnIdIsRejectedForGood(t *testing.T) {
	for field, cfg := range map[string]inbox.Config{
		"MessageId": {Dialect: "sqlite"},
		"ID":        {Dialect: "sqlite", ID: func(*consumer.Delivery) string { return "" }},
	} {
		h, err := inbox.Handler(&sql.DB{}, cfg, handle)
		if err != nil {
			t.Fatal(err)
		}
		err = h(t.Context(), &consumer.Delivery{Delivery: amqp.Delivery{}, Queue: "orders"})
		var rejected *consumer.RejectError
		var fault *amqperr.FieldError
		if !errors.As(err, &rejected) || rejected.Requeue || !errors.As(err, &fault) || fault.Field != field ||
			!strings.Contains(fault.Fix, "Config.ID") || !amqperr.IsPermanent(err) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
