package amqpkit_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
)

func TestOpenConnectsWhenTheBrokerComesBack(t *testing.T) {
	for name, away := range map[string]func(*amqptest.Broker){"Stop": (*amqptest.Broker).Stop, "Kill": (*amqptest.Broker).Kill} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := inMemory(t)
				conn := open(t, b, amqpkit.Config{})
				if err := conn.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				away(b)
				time.Sleep(time.Minute)
				if err := conn.Err(); !errors.Is(err, amqpkit.ErrUnreachable) || errors.Is(err, amqpkit.ErrClosed) {
					t.Errorf("without a broker: %v", err)
				}
				if err := b.Start(); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if err := conn.Ready(t.Context()); err != nil || time.Since(began) > time.Second {
					t.Errorf("Ready = %v, %v after the broker", err, time.Since(began))
				}
				if err := conn.Err(); err != nil {
					t.Errorf("Err = %v", err)
				}
			})
		})
	}
}

func TestALossIsFollowedByTheFirstAttemptWithinTwentyMilliseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		conn := open(t, b, amqpkit.Config{})
		for range 20 {
			ac, err := conn.PublishConnection(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // so that it is an outage of its own
			lose(t, ac, func() int { return b.CloseConnections(320, "CONNECTION_FORCED - maintenance") })
			began := time.Now()
			if again, err := conn.PublishConnection(t.Context()); err != nil || again == ac || time.Since(began) > 20*time.Millisecond {
				t.Errorf("the next session came after %v (%v)", time.Since(began), err)
			}
		}
	})
}

func TestDialTellsWhatTheBrokerRefused(t *testing.T) {
	b := amqptest.Start(t, amqptest.Config{Users: map[string]string{"app": "right"}})
	for name, c := range map[string]struct {
		url    string
		kind   error
		advice string
	}{
		"another password": {"amqp://app:wrong@" + b.Addr() + "/", amqpkit.ErrLogin, "check user and password"},
		"another user":     {"amqp://eve:right@" + b.Addr() + "/", amqpkit.ErrLogin, "check user and password"},
		"no such vhost":    {"amqp://app:right@" + b.Addr() + "/staging", amqpkit.ErrVhost, "rabbitmqctl add_vhost"},
	} {
		conn, err := amqpkit.Dial(within(t), c.url)
		var dial *amqpkit.DialError
		if conn != nil || !errors.As(err, &dial) || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.advice) {
			t.Errorf("%s: Dial = %v, want kind %q and the advice %q", name, err, c.kind, c.advice)
		}
		if s := err.Error(); strings.Contains(s, "wrong") || strings.Contains(s, "right") {
			t.Errorf("%s: the error shows a password: %s", name, s)
		}
	}
}

func TestARefusedLoginIsTriedAgainUntilItIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		b.RefuseLogins(true)
		conn := open(t, b, amqpkit.Config{})
		time.Sleep(time.Minute)
		if err := conn.Err(); !errors.Is(err, amqpkit.ErrLogin) || errors.Is(err, amqpkit.ErrClosed) {
			t.Errorf("while logins are refused: %v", err)
		}
		b.RefuseLogins(false)
		if err := conn.Ready(t.Context()); err != nil {
			t.Errorf("Ready = %v", err)
		}
	})
}

func TestCredentialsAreAskedForEverySession(t *testing.T) {
	b := amqptest.Start(t, amqptest.Config{InMemory: true, Users: map[string]string{"app": "s3cret"}})
	var asked atomic.Int32
	conn := open(t, b, amqpkit.Config{
		URLs: []string{"amqp://h/"},
		Credentials: func(context.Context) (amqpkit.Credentials, error) {
			asked.Add(1)
			return amqpkit.Credentials{Username: "app", Password: "s3cret"}, nil
		},
	})
	lose(t, publishing(t, conn), b.DropConnections)
	publishing(t, conn)
	if all := b.Connections(); len(all) != 1 || all[0].User != "app" || asked.Load() != 2 {
		t.Errorf("the broker has %+v after %d questions, want app after 2", all, asked.Load())
	}
}

func TestAnotherURLIsTakenWhereABrokerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		brokers := map[string]*amqptest.Broker{"a:5672": inMemory(t), "b:5672": inMemory(t)}
		conn := open(t, nil, amqpkit.Config{
			URLs: []string{"amqp://guest:guest@a/", "amqp://guest:guest@b/"},
			Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return brokers[addr].Dial(ctx, network, addr)
			},
		})
		for range 4 {
			time.Sleep(time.Second)
			if err := conn.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			on, other := brokers["a:5672"], brokers["b:5672"]
			if len(on.Connections()) == 0 {
				on, other = other, on
			}
			if len(on.Connections()) != 1 || len(other.Connections()) != 0 {
				t.Fatalf("%d and %d connections, want one in all", len(on.Connections()), len(other.Connections()))
			}
			if err := other.Start(); err != nil { // does nothing the first time
				t.Fatal(err)
			}
			on.Stop()
		}
	})
}
