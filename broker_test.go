package amqpkit_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/topology"
)

// open returns a Conn to a broker in memory.
func open(t *testing.T, b *amqptest.Broker, cfg amqpkit.Config) *amqpkit.Conn {
	t.Helper()
	if cfg.URLs == nil {
		cfg.URLs = []string{b.URL()}
	}
	if cfg.Dialer == nil {
		cfg.Dialer = b.Dial
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	conn, err := amqpkit.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return conn
}

func inMemory(t *testing.T) *amqptest.Broker {
	t.Helper()
	return amqptest.Start(t, amqptest.Config{InMemory: true})
}

// within is the test's ctx, bounded, so that what hangs fails where it does.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func publishing(t *testing.T, conn *amqpkit.Conn) *amqp.Connection {
	t.Helper()
	ac, err := conn.PublishConnection(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return ac
}

// lose has a connection lost, and returns when its client knows.
func lose(t *testing.T, ac *amqp.Connection, how func() int) {
	t.Helper()
	lost := ac.NotifyClose(make(chan *amqp.Error, 1))
	if how() == 0 {
		t.Fatal("there is no connection")
	}
	if reason := <-lost; reason == nil {
		t.Fatal("the connection was closed in good order")
	}
}

func TestPublishersAndConsumersHaveAConnectionEachOnceTheyAsk(t *testing.T) {
	b := inMemory(t)
	conn := open(t, b, amqpkit.Config{Name: "billing"})
	if err := conn.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
	pub := publishing(t, conn)
	if all := b.Connections(); len(all) != 1 || all[0].Name != "billing" {
		t.Errorf("with a publisher alone the broker has %+v", all)
	}
	con, err := conn.ConsumeConnection(within(t))
	if err != nil || con == pub || len(b.Connections()) != 2 {
		t.Errorf("with a consumer too the broker has %+v (%v)", b.Connections(), err)
	}
	if publishing(t, conn) != pub {
		t.Error("the session changed without a loss")
	}
	if err := conn.Close(t.Context()); err != nil || !errors.Is(conn.Err(), amqpkit.ErrClosed) {
		t.Errorf("Close = %v, then Err = %v", err, conn.Err())
	}
	if err := b.Await(within(t), func() bool { return len(b.Connections()) == 0 }); err != nil {
		t.Error(err)
	}
}

func TestNobodyGetsASessionBeforeItsSetupIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // what fails pauses
		b := inMemory(t)
		var running atomic.Bool
		var runs int
		var done sync.Map // the connections that were set up
		orders := topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
		conn := open(t, b, amqpkit.Config{Setup: func(ctx context.Context, ac *amqp.Connection) error {
			if running.Swap(true) {
				t.Error("two run at once")
				return nil
			}
			defer running.Store(false)
			time.Sleep(50 * time.Millisecond) // longer than the other link's pause
			if runs++; runs%2 == 1 {
				return errors.New("not this time") // tried again, on another session
			}
			done.Store(ac, true)
			return orders.Declare(ctx, ac)
		}})
		last := (*amqp.Connection)(nil)
		for range 5 {
			var wg sync.WaitGroup
			for _, get := range []func(context.Context) (*amqp.Connection, error){conn.PublishConnection, conn.ConsumeConnection} {
				wg.Go(func() {
					if _, err := get(within(t)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			pub := publishing(t, conn)
			if _, ok := done.Load(pub); !ok || pub == last {
				t.Errorf("handed out: a session of the time before %v, set up %v", pub == last, ok)
			}
			last = pub
			if _, ok := b.Queue("orders"); !ok {
				t.Error("what Setup declares is not there")
			}
			lose(t, pub, b.DropConnections)
		}
	})
}

func TestWhatBelongsToALostSessionReachesTheBrokerNoMore(t *testing.T) {
	b := inMemory(t)
	orders := topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
	conn := open(t, b, amqpkit.Config{Setup: orders.Declare})
	get := func() amqp.Delivery {
		ch, err := conn.Channel(within(t))
		if err != nil {
			t.Fatal(err)
		}
		d, ok, err := ch.Get("orders", false)
		if err != nil || !ok {
			t.Fatalf("Get = %v, %v", ok, err)
		}
		return d
	}
	ch, err := conn.Channel(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.PublishWithContext(t.Context(), "", "orders", false, false, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Await(within(t), func() bool { return len(b.Messages("orders")) == 1 }); err != nil {
		t.Fatal(err)
	}
	old := get()
	ac, err := conn.ConsumeConnection(within(t))
	if err != nil {
		t.Fatal(err)
	}
	lose(t, ac, b.DropConnections)
	again := get() // with the same delivery tag, on the next session
	if err := old.Ack(false); !errors.Is(err, amqp.ErrClosed) {
		t.Errorf("the late Ack = %v, want ErrClosed", err)
	}
	if q, _ := b.Queue("orders"); q.Unacked != 1 || !again.Redelivered || again.DeliveryTag != old.DeliveryTag {
		t.Errorf("%+v after a late Ack; redelivered %v", q, again.Redelivered)
	}
	if err := again.Ack(false); err != nil {
		t.Error(err)
	}
	if err := b.Await(within(t), func() bool { q, _ := b.Queue("orders"); return q.Unacked == 0 }); err != nil {
		t.Error(err)
	}
}

func TestBlockedTellsTheBrokersReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		conn := open(t, b, amqpkit.Config{})
		ch, err := publishing(t, conn).Channel()
		if err != nil {
			t.Fatal(err)
		}
		b.Block("low on memory")
		if err := conn.Blocked(); err != nil {
			t.Errorf("before the first message Blocked = %v", err)
		}
		if err := ch.PublishWithContext(t.Context(), "", "nowhere", false, false, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := conn.Blocked(); !errors.Is(err, amqperr.ErrBlocked) || !strings.Contains(err.Error(), "low on memory") {
			t.Errorf("Blocked = %v, want amqperr.ErrBlocked and the reason", err)
		}
		b.Unblock()
		synctest.Wait()
		if err := conn.Blocked(); err != nil {
			t.Errorf("after the alarm Blocked = %v", err)
		}
	})
}
