package consumer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
)

func TestErrorsNameThePackageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := errors.New("amqpkit: connection closed")
		field := &amqperr.FieldError{Package: "topology", Field: "Queues[0].Name", Problem: "is empty"}
		texts := map[string]error{
			"LostError":      &LostError{Queue: "q", Err: closed},
			"SubscribeError": &SubscribeError{Queue: "q", Err: field},
			"DrainError":     &DrainError{Unsettled: 1, Err: &LostError{Queue: "q", Err: closed}},
			"PoisonError":    &PoisonError{Queue: "q", Err: closed},
		}
		gone := connFunc(func(context.Context) (*amqp.Connection, error) { return nil, closed })
		_, _, texts["Get"] = Get(t.Context(), gone, "q")
		c, err := New(gone, Config{Queue: "q"}, nop)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("retry: too slow"))
		defer cancel()
		texts["Ready before Run"] = c.Ready(ctx)
		texts["Run"] = c.Run(t.Context())
		texts["Err after Run"] = c.Err()
		c, err = New(connFunc(func(context.Context) (*amqp.Connection, error) { return nil, nil }), Config{
			Queue: "q", Declare: func(context.Context, *amqp.Connection) (string, error) { return "", errors.New("amqpkit: down") },
		}, nop)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithTimeoutCause(t.Context(), time.Second, errors.New("retry: too slow"))
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		texts["Ready while Run tries to subscribe"] = c.Ready(ctx)
		texts["Run without a subscription"] = <-done
		for name, err := range texts {
			text := err.Error()
			inner := strings.TrimPrefix(text, "consumer: ")
			if inner == text || strings.Contains(inner, "consumer: ") || strings.Contains(inner, "amqpkit: ") || strings.Contains(inner, "topology: ") || strings.Contains(inner, "retry: ") {
				t.Errorf("%s: %s", name, text)
			}
		}
		if !errors.Is(texts["Err after Run"], closed) || !errors.Is(texts["DrainError"], closed) {
			t.Errorf("a cause is missing: %v", texts)
		}
	})
}
