package publishing

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

func TestFullWindowIsBackPressureBoundedByCtx(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	for name, cfg := range map[string]producer.Config{
		"messages": {MaxInFlight: 3},
		"bytes":    {MaxInFlightBytes: 300},
	} {
		t.Run(name, func(t *testing.T) {
			proxy, conn := kit.Through(t, amqpkit.Config{})
			p := kit.NewProducer(t, conn, cfg)
			ctx := kit.Within(t, 10*time.Second)
			if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
				t.Fatal(err)
			}
			proxy.Pause(amqptest.FromBroker)
			body := make([]byte, 100)
			var receipts []*producer.Receipt
			for range 3 {
				r, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{Body: body})
				if err != nil {
					t.Fatal(err)
				}
				receipts = append(receipts, r)
			}
			for _, publish := range []func(context.Context) error{
				func(ctx context.Context) error { return p.Publish(ctx, "", queue, amqp.Publishing{Body: body}) },
				func(ctx context.Context) error {
					_, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{Body: body})
					return err
				},
				func(ctx context.Context) error {
					return errors.Join(p.PublishAll(ctx, []producer.Message{{Key: queue, Publishing: amqp.Publishing{Body: body}}})...)
				},
			} {
				short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				start := time.Now()
				err := publish(short)
				cancel()
				if took := time.Since(start); !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, context.DeadlineExceeded) || took < 50*time.Millisecond || took > 300*time.Millisecond {
					t.Errorf("with a full window: %v after %v, want ErrNotPublished at the end of ctx", err, took)
				}
			}
			waits := make(chan error)
			go func() { waits <- p.Publish(ctx, "", queue, amqp.Publishing{Body: body}) }()
			proxy.Clear()
			for _, r := range receipts {
				if err := r.Wait(ctx); err != nil {
					t.Error(err)
				}
			}
			if err := <-waits; err != nil {
				t.Errorf("the one that waited: %v", err)
			}
		})
	}
}

func TestCloseOfAProducerFlushesAndThenRefuses(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	conn := kit.Connect(t, amqpkit.Config{})
	p := kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, 20*time.Second)
	var receipts []*producer.Receipt
	for range 1000 {
		r, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, r)
	}
	if err := p.Close(ctx); err != nil {
		t.Fatalf("Close = %v", err)
	}
	for _, r := range receipts {
		select {
		case <-r.Done():
			if err := r.Wait(ctx); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatal("Close returned before a message had its outcome")
		}
	}
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, producer.ErrClosed) {
		t.Errorf("Publish after Close = %v", err)
	}
	if err := p.Close(ctx); err != nil {
		t.Errorf("Close again = %v", err)
	}
}

func TestCloseOfAProducerThatCannotFlushTellsHowManyAreLeft(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	proxy, conn := kit.Through(t, amqpkit.Config{})
	p := kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, 20*time.Second)
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	proxy.Pause(amqptest.FromBroker)
	var receipts []*producer.Receipt
	for range 7 {
		r, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, r)
	}
	kit.WaitFor(t, func() bool { return kit.Ready(t, queue) == 8 })
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := p.Close(short)
	if took := time.Since(start); !errors.Is(err, producer.ErrUnconfirmed) || !strings.Contains(err.Error(), "7 messages unconfirmed") || took > 310*time.Millisecond {
		t.Errorf("Close = %v after %v", err, took)
	}
	for _, r := range receipts {
		if err := r.Wait(ctx); !errors.Is(err, producer.ErrUnconfirmed) {
			t.Errorf("Wait = %v, want ErrUnconfirmed", err)
		}
	}
}

func TestConnectionClosedForGoodEndsItsProducers(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	conn := kit.Connect(t, amqpkit.Config{})
	p := kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, 20*time.Second)
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, producer.ErrClosed) {
		t.Errorf("Publish = %v, want ErrNotPublished and ErrClosed", err)
	}
	if err := p.Close(ctx); !errors.Is(err, producer.ErrNotPublished) {
		t.Errorf("Close = %v, want an error that counts the message", err)
	}
}
