package amqpkit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
)

func TestTheTextOfAnErrorHasThePrefixOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soon := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		errs := map[string]error{}
		add := func(name string, _ any, err error) { errs[name] = err }

		unreachable := open(t, nil, amqpkit.Config{URLs: []string{"amqp://h/"}, Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no route to host")
		}})
		errs["Ready"] = unreachable.Ready(soon())
		errs["Err"] = unreachable.Err()
		c, err := unreachable.PublishConnection(soon())
		add("PublishConnection", c, err)
		_, err = unreachable.AddSetup(soon(), func(context.Context, *amqp.Connection) error { return nil })
		add("AddSetup", nil, err)

		ended, err := amqpkit.Open(amqpkit.Config{URLs: []string{"amqp://h/"}, Logger: slog.New(slog.DiscardHandler), Credentials: func(context.Context) (amqpkit.Credentials, error) {
			return amqpkit.Credentials{}, amqperr.Permanent(unreachable.Err())
		}})
		if err != nil {
			t.Fatal(err)
		}
		<-ended.Done()
		errs["Err after a permanent failure"] = ended.Err()
		errs["Ready after a permanent failure"] = ended.Ready(t.Context())

		b := inMemory(t)
		conn := open(t, b, amqpkit.Config{})
		publishing(t, conn)
		_, err = conn.AddSetup(soon(), func(context.Context, *amqp.Connection) error { return unreachable.Err() })
		add("AddSetup of a step that fails", nil, err)
		_, found := conn.QueueMissing("orders", unreachable.Err())
		errs["MissingError"] = conn.Err()
		errs["Ready without a queue"] = conn.Ready(soon())
		found()
		lose(t, publishing(t, conn), b.DropConnections)
		synctest.Wait()
		errs["Err at a loss"] = conn.Err()

		for name, err := range errs {
			if err == nil || strings.Count(err.Error(), "amqpkit: ") != 1 || !strings.HasPrefix(err.Error(), "amqpkit: ") {
				t.Errorf("%s: %v, want the prefix once", name, err)
			}
			t.Log(name, "=", err)
		}
	})
}

// Package parking ends a replay at an error with this method, instead of skipping its message.
func TestOnlyAnErrorOfAClosedConnHasTheMethodClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := amqpkit.Config{URLs: []string{"amqp://h/"}, Credentials: func(context.Context) (amqpkit.Credentials, error) {
			return amqpkit.Credentials{}, amqperr.Permanent(errors.New("no such user"))
		}}
		closed, ended, down := open(t, inMemory(t), amqpkit.Config{}), open(t, nil, refused), open(t, nil, amqpkit.Config{
			URLs:   []string{"amqp://h/"},
			Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route to host") },
		})
		if err := closed.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-ended.Done()
		for conn, want := range map[*amqpkit.Conn]bool{closed: true, ended: true, down: false} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := conn.PublishConnection(ctx)
			var is interface{ Closed() bool }
			if got := errors.As(fmt.Errorf("not published: %w", err), &is) && is.Closed(); got != want {
				t.Errorf("%v: Closed %v, want %v", err, got, want)
			}
		}
	})
}
