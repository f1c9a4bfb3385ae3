package producer_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/producer"
)

func TestErrorsNameThePackageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down, err := amqpkit.Open(amqpkit.Config{
			URLs: []string{"amqp://127.0.0.1:1"}, Logger: quiet,
			Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") },
		})
		if err != nil {
			t.Fatal(err)
		}
		waiting, err := producer.New(down, producer.Config{Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		failFast, err := producer.New(down, producer.Config{Logger: quiet, FailFast: true})
		if err != nil {
			t.Fatal(err)
		}
		_, p := start(t, producer.Config{})
		_, closed := start(t, producer.Config{})
		if err := closed.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		short := func(do func(context.Context) error) error {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("consumer: too slow"))
			defer cancel()
			return do(ctx)
		}
		send := func(p *producer.Producer, m amqp.Publishing) func(context.Context) error {
			return func(ctx context.Context) error { return p.Publish(ctx, "", "orders", m) }
		}
		texts := map[string]error{
			"an invalid field":             send(p, amqp.Publishing{Expiration: "soon"})(t.Context()),
			"a value that JSON cannot be":  p.PublishJSON(t.Context(), "", "orders", make(chan int)),
			"Publish after Close":          send(closed, amqp.Publishing{})(t.Context()),
			"Err after Close":              closed.Err(),
			"Ready after Close":            closed.Ready(t.Context()),
			"Err without a connection":     waiting.Err(),
			"Publish without a connection": short(send(waiting, amqp.Publishing{})),
			"Ready without a connection":   short(waiting.Ready),
			"FailFast":                     send(failFast, amqp.Publishing{})(t.Context()),
		}
		if _, err := waiting.PublishAsync(t.Context(), "", "orders", amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		texts["Close with a message"] = short(waiting.Close)
		if err := down.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		texts["Err after the connection was closed"] = failFast.Err()
		texts["Publish after the connection was closed"] = send(failFast, amqp.Publishing{})(t.Context())
		if err := failFast.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, err := range texts {
			if err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			text := err.Error()
			inner := strings.TrimPrefix(text, "producer: ")
			if inner == text || strings.Contains(inner, "producer: ") || strings.Contains(inner, "consumer: ") || strings.Contains(inner, "amqpkit: ") || strings.Count(text, "not ready") > 1 {
				t.Errorf("%s: %s", name, text)
			}
		}
		var field *amqperr.FieldError
		if !errors.As(texts["an invalid field"], &field) || !errors.Is(texts["Err after Close"], producer.ErrClosed) ||
			!errors.Is(texts["Err after the connection was closed"], producer.ErrClosed) || !errors.Is(texts["Err after the connection was closed"], amqpkit.ErrClosed) {
			t.Errorf("a cause is missing: %v", texts)
		}
	})
}
