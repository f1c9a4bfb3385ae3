package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/internal/wire"
)

func TestCallReturnsSoonAfterItsCtxAndKillsTheStuckLink(t *testing.T) {
	proxy := newProxy(t, broker(t).URL())
	conn := connect(t, amqpkit.Config{URLs: []string{proxy.url}})
	ac, err := conn.Consuming(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	lost := ac.NotifyClose(make(chan *amqp.Error, 1))
	proxy.hold(replies)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = wire.Channel(ctx, ac)
	if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 300*time.Millisecond {
		t.Errorf("Channel = %v after %v", err, took)
	}
	select {
	case reason := <-lost: // or a late answer would be taken for that to another call
		t.Logf("the link was cut: %v", reason)
	case <-within(t, 5*time.Second).Done():
		t.Error("the link is alive")
	}
}

func TestCallWhoseCtxEndsDoesNotDisturbAHealthyLink(t *testing.T) {
	conn := connect(t, amqpkit.Config{})
	ac, err := conn.Consuming(within(t, 10*time.Second))
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

func TestCloseOfAStuckConnectionIsBoundedByItsCtx(t *testing.T) {
	proxy := newProxy(t, broker(t).URL())
	conn := connect(t, amqpkit.Config{URLs: []string{proxy.url}})
	if _, err := conn.Consuming(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	proxy.hold(replies)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := conn.Close(ctx)
	if took := time.Since(start); took > 310*time.Millisecond {
		t.Errorf("Close = %v after %v", err, took)
	}
	<-conn.Done()
}
