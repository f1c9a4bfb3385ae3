package amqpkit_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
)

func TestS93APeerOfAnotherProtocolIsNamed(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n": "HTTP",
		"\x15\x03\x01\x00\x02\x02\x46":                          "TLS",
		"AMQP\x03\x01\x00\x00":                                  "another version of AMQP",
		"SSH-2.0-OpenSSH_9.9\r\n":                               "SSH",
		"":                                                      "closed the connection without an answer",
	} {
		_, err := amqpkit.DialConfig(within(t), amqpkit.Config{
			URLs: []string{"amqp://guest:guest@h/"},
			Dialer: func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go func() {
					defer server.Close()
					_, _ = io.ReadFull(server, make([]byte, 8))
					_, _ = io.WriteString(server, answer)
				}()
				return client, nil
			},
		})
		if !errors.Is(err, amqpkit.ErrHandshake) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "15672") {
			t.Errorf("%q: Dial = %v, want %q and advice", answer, err, want)
		}
	}
}

func TestS93EveryWayToWaitReportsWhySetupFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conflict := errors.New(`queue "orders": durable is false on the broker`)
		conn := open(t, inMemory(t), amqpkit.Config{Setup: func(context.Context, *amqp.Connection) error { return conflict }})
		wait := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		_, publish := conn.PublishConnection(wait())
		_, consume := conn.ConsumeConnection(wait())
		_, channel := conn.Channel(wait())
		_, add := conn.AddSetup(wait(), func(context.Context, *amqp.Connection) error { return nil })
		c, err := consumer.New(conn, consumer.Config{Queue: "orders"}, func(context.Context, *consumer.Delivery) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		for name, err := range map[string]error{
			"Ready": conn.Ready(wait()), "Err": conn.Err(), "Publishing": publish, "Consuming": consume, "Channel": channel,
			"AddSetup": add, "Run": c.Run(wait()),
		} {
			if !errors.Is(err, conflict) {
				t.Errorf("%s = %v, want the conflict", name, err)
			}
		}
	})
}

// It tells that its time was over, and what it said to that, on one line.
func TestS93ASetupThatTakesTooLongIsReportedOnOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for text, end := range map[string]func(ctx context.Context) error{
			"not done within 1s":                            func(context.Context) error { return nil },
			"not done within 1s: declare orders: canceled":  func(context.Context) error { return errors.New("declare orders: canceled") },
			"not done within 1s: context deadline exceeded": func(ctx context.Context) error { return ctx.Err() },
		} {
			b := inMemory(t)
			_, err := amqpkit.DialConfig(t.Context(), amqpkit.Config{
				URLs: []string{b.URL()}, Dialer: b.Dial, SetupTimeout: time.Second,
				Setup: func(ctx context.Context, _ *amqp.Connection) error { <-ctx.Done(); return end(ctx) },
			})
			if !errors.Is(err, amqpkit.ErrSetup) || !strings.Contains(err.Error(), "setup failed: "+text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Dial = %v, want %q", err, text)
			}
		}
	})
}

func TestS93AChannelThatCannotBeOpenedComesWithAdvice(t *testing.T) {
	b := inMemory(t)
	conn := open(t, b, amqpkit.Config{URLs: []string{b.URL() + "?channel_max=1"}})
	if _, err := conn.Channel(within(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Channel(within(t)); !errors.Is(err, amqp.ErrChannelMax) || !strings.Contains(err.Error(), "channel_max in") {
		t.Errorf("Channel = %v, want ErrChannelMax and advice", err)
	}
}

func TestS87SetupTimeoutDoesNotIncludeTheOtherConnectionsSetup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		conn := open(t, b, amqpkit.Config{SetupTimeout: 10 * time.Second, Setup: func(ctx context.Context, _ *amqp.Connection) error {
			select {
			case <-time.After(8 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 17*time.Second)
		defer cancel()
		done := make(chan error, 2)
		for _, get := range []func(context.Context) (*amqp.Connection, error){conn.PublishConnection, conn.ConsumeConnection} {
			go func() { _, err := get(ctx); done <- err }()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := len(b.Connections()); n != 2 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestS97AStepThatIsAddedRunsNowAndOnEveryLaterSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		var order []string
		record := func(name string) func(context.Context, *amqp.Connection) error {
			return func(context.Context, *amqp.Connection) error { order = append(order, name); return nil }
		}
		conn := open(t, b, amqpkit.Config{Setup: record("setup")})
		publishing(t, conn)
		consuming(t, conn)
		order = nil
		expect := func(want string) {
			t.Helper()
			if got := strings.Join(order, " "); got != want {
				t.Errorf("ran %q, want %q", got, want)
			}
			order = nil
		}
		remove, err := conn.AddSetup(within(t), record("a"))
		if err != nil {
			t.Fatal(err)
		}
		expect("a a") // both sessions
		refused := errors.New("refused")
		if _, err := conn.AddSetup(within(t), func(context.Context, *amqp.Connection) error { return refused }); !errors.Is(err, refused) {
			t.Errorf("AddSetup = %v, want %v", err, refused)
		}
		if _, err := conn.AddSetup(within(t), record("b")); err != nil {
			t.Fatal(err)
		}
		expect("b b")
		lose(t, consuming(t, conn), b.DropConnections)
		synctest.Wait() // the other connection is lost too
		publishing(t, conn)
		consuming(t, conn)
		expect("setup a b setup a b")
		remove()
		_, found := conn.QueueMissing("orders", errors.New("no queue"))
		time.Sleep(time.Second / 2)
		found()
		expect("setup b")
		if _, err := conn.AddSetup(within(t), nil); err == nil {
			t.Error("a nil step was added")
		}
		_ = conn.Close(t.Context())
		if _, err := conn.AddSetup(within(t), record("c")); !errors.Is(err, amqpkit.ErrClosed) {
			t.Errorf("AddSetup after Close = %v", err)
		}
	})
}
