package connection

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/internal/wire"
	"github.com/amqpkit/amqpkit/topology"
)

func TestS48CallReturnsSoonAfterItsCtxAndKillsTheStuckLink(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	objects := topology.Topology{Queues: []topology.Queue{{Name: queue}}}
	for name, call := range map[string]func(context.Context, *amqpkit.Conn, *amqp.Connection, *amqp.Channel) error{
		"channel.open": func(ctx context.Context, conn *amqpkit.Conn, _ *amqp.Connection, _ *amqp.Channel) error {
			_, err := conn.Channel(ctx)
			return err
		},
		"channel.close": func(ctx context.Context, _ *amqpkit.Conn, ac *amqp.Connection, ch *amqp.Channel) error {
			return wire.Do(ctx, ac, ch.Close)
		},
		"queue.declare": func(ctx context.Context, _ *amqpkit.Conn, ac *amqp.Connection, _ *amqp.Channel) error {
			return objects.Declare(ctx, ac)
		},
		"queue.declare, passive": func(ctx context.Context, _ *amqpkit.Conn, ac *amqp.Connection, _ *amqp.Channel) error {
			return objects.Verify(ctx, ac)
		},
		"basic.get": func(ctx context.Context, conn *amqpkit.Conn, _ *amqp.Connection, _ *amqp.Channel) error {
			_, _, err := consumer.Get(ctx, conn, queue)
			return err
		},
		"basic.qos": func(ctx context.Context, _ *amqpkit.Conn, ac *amqp.Connection, ch *amqp.Channel) error {
			return wire.Do(ctx, ac, func() error { return ch.Qos(1, 0, false) })
		},
		"basic.consume": func(ctx context.Context, _ *amqpkit.Conn, ac *amqp.Connection, ch *amqp.Channel) error {
			_, err := wire.Call(ctx, ac, func() (<-chan amqp.Delivery, error) {
				return ch.Consume(queue, "", false, false, false, false, nil)
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
			conn := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}})
			ac, err := conn.ConsumeConnection(kit.Within(t, 10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			ch, err := ac.Channel()
			if err != nil {
				t.Fatal(err)
			}
			lost := ac.NotifyClose(make(chan *amqp.Error, 1))
			proxy.Pause(amqptest.FromBroker)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			start := time.Now()
			err = call(ctx, conn, ac, ch)
			took := time.Since(start)
			t.Logf("ctx 50 ms: %v: %v", took.Round(time.Millisecond), err)
			if !errors.Is(err, context.DeadlineExceeded) || took > 300*time.Millisecond {
				t.Errorf("%v after %v", err, took)
			}
			select {
			case reason := <-lost: // or a late answer would be taken for that to another call
				t.Logf("the link was cut: %v", reason)
			case <-kit.Within(t, 5*time.Second).Done():
				t.Error("the link is alive")
			}
			proxy.Clear()
			fresh, err := conn.Channel(kit.Within(t, 15*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fresh.QueueDeclarePassive(queue, true, false, false, false, nil); err != nil {
				t.Errorf("on the next session: %v", err)
			}
		})
	}
}

func TestCallWhoseCtxEndsDoesNotDisturbAHealthyLink(t *testing.T) {
	conn := kit.Connect(t, amqpkit.Config{})
	ac, err := conn.ConsumeConnection(kit.Within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Microsecond)
		ch, err := wire.Channel(ctx, ac)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("after %d calls: %v", i, err)
		}
		if err == nil {
			if err := ch.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ac.IsClosed() {
		t.Error("the connection is gone")
	}
}

func TestS48CloseOfAStuckConnectionIsBoundedByItsCtx(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}})
	if _, err := conn.ConsumeConnection(kit.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	proxy.Pause(amqptest.FromBroker)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := conn.Close(ctx)
	if took := time.Since(start); took > 310*time.Millisecond {
		t.Errorf("Close = %v after %v", err, took)
	}
	<-conn.Done()
}
