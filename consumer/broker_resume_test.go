package consumer_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
)

func TestConsumingResumesWithinASecondOfEachLoss(t *testing.T) {
	for name, c := range map[string]struct {
		lose func(*bench)
		lost bool // unacknowledged deliveries are redelivered
	}{
		"its consumer is cancelled": {func(b *bench) { b.CancelConsumers("orders") }, true},
		"its channel is closed":     {func(b *bench) { b.CloseChannels(406, "PRECONDITION_FAILED - caused by another consumer") }, true},
		"its connection is reset":   {func(b *bench) { b.DropConnections() }, true},
		"its connection is closed":  {func(b *bench) { b.CloseConnections(320, "CONNECTION_FORCED - maintenance") }, true},
		"the broker is restarted":   {func(b *bench) { b.Stop(); _ = b.Start() }, true},
		"the broker is killed":      {func(b *bench) { b.Kill(); _ = b.Start() }, true},
		"its queue is deleted, and declared again with the session": {func(b *bench) {
			b.onChannel(func(ch *amqp.Channel) error { _, err := ch.QueueDelete("orders", false, false, false); return err })
			time.Sleep(10 * time.Second)
			b.DropConnections() // Setup declares it
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				release := make(chan struct{})
				var mu sync.Mutex
				var handled []string
				consuming, end := b.run(consumer.Config{Workers: 3, Prefetch: 1}, func(_ context.Context, d *consumer.Delivery) error {
					mu.Lock()
					handled = append(handled, string(d.Body))
					mu.Unlock()
					if string(d.Body) == "unacked" && !d.Redelivered {
						<-release
					}
					return nil
				})
				b.publish("unacked")
				synctest.Wait()
				c.lose(b)
				time.Sleep(time.Second)
				if err := consuming.Ready(t.Context()); err != nil || consuming.Err() != nil {
					t.Errorf("a second later: Ready = %v, Err = %v", err, consuming.Err())
				}
				if err := b.conn.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				b.publish("next")
				synctest.Wait()
				close(release) // the result of a delivery of the lost session
				synctest.Wait()
				want := []string{"unacked", "next"}
				if c.lost {
					want = []string{"unacked", "unacked", "next"}
				}
				if !slices.Equal(handled, want) {
					t.Errorf("handled %q, want %q", handled, want)
				}
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
				b.expectLeft(0, 0)
			})
		})
	}
}

func TestMissingQueueIsReportedAndAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		handled := 0
		c, _ := b.run(consumer.Config{Queue: "later"}, func(context.Context, *consumer.Delivery) error { handled++; return nil })
		time.Sleep(time.Minute)
		var sub *consumer.SubscribeError
		var refused *amqp.Error
		if err := c.Err(); !errors.As(err, &sub) || sub.Queue != "later" || !errors.As(err, &refused) || refused.Code != 404 {
			t.Errorf("Err = %v, want a *SubscribeError: 404", err)
		}
		b.onChannel(func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare("later", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
			return errors.Join(err, ch.PublishWithContext(t.Context(), "", "later", false, false, amqp.Publishing{}))
		})
		time.Sleep(time.Second)
		synctest.Wait()
		if handled != 1 || c.Err() != nil {
			t.Errorf("%d messages handled a second after the queue was declared, Err = %v", handled, c.Err())
		}
	})
}

func TestExclusiveQueueIsDeclaredBeforeEverySubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var names, handled []string
		b.run(consumer.Config{Declare: func(_ context.Context, ac *amqp.Connection) (string, error) {
			ch, err := ac.Channel()
			if err != nil {
				return "", err
			}
			defer ch.Close()
			q, err := ch.QueueDeclare("", false, false, true, false, nil)
			names = append(names, q.Name)
			return q.Name, errors.Join(err, ch.QueueBind(q.Name, "", "amq.fanout", false, nil))
		}}, func(_ context.Context, d *consumer.Delivery) error { handled = append(handled, d.Queue); return nil })
		for range 3 {
			time.Sleep(time.Second)
			b.onChannel(func(ch *amqp.Channel) error {
				return ch.PublishWithContext(t.Context(), "amq.fanout", "", false, false, amqp.Publishing{})
			})
			synctest.Wait()
			b.DropConnections()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(names) != 4 || !slices.Equal(handled, names[:3]) || names[0] == names[1] {
			t.Errorf("declared %q, handled messages of %q", names, handled)
		}
	})
}

func TestShutdownFinishesRunningHandlersAndRequeuesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		_, end := b.run(consumer.Config{Workers: 1, Prefetch: 3}, func(ctx context.Context, _ *consumer.Delivery) error {
			time.Sleep(20 * time.Second) // within DrainTimeout
			return ctx.Err()
		})
		b.publish("unacked", "waiting", "waiting", "in the queue")
		synctest.Wait()
		if err := end(); err != nil {
			t.Errorf("Run = %v, want nil: all handled messages are settled", err)
		}
		b.expectLeft(3, 0)
		if m := b.Messages("orders"); string(m[0].Body) != "waiting" || m[0].Headers["x-delivery-count"] != nil {
			t.Errorf("the next message is %s with headers %v, want a requeued one, not counted as failed", m[0].Body, m[0].Headers)
		}
	})
}

func TestHandlersBeyondTheDrainTimeoutAreCancelledAndTheirMessagesRedelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ended := make(chan struct{})
		_, end := b.run(consumer.Config{DrainTimeout: 10 * time.Second}, func(ctx context.Context, _ *consumer.Delivery) error {
			defer close(ended)
			<-ctx.Done()
			time.Sleep(time.Minute) // ignores the end of ctx
			return nil
		})
		b.publish("m")
		synctest.Wait()
		began := time.Now()
		var d *consumer.DrainError
		if err := end(); !errors.As(err, &d) || d.Unfinished != 1 || d.Running != 1 {
			t.Errorf("Run = %v, want a *DrainError: 1 unfinished and running", err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("Run ended after %v, want just over 10 s", took)
		}
		synctest.Wait()
		b.expectLeft(1, 0)
		<-ended
	})
}

func TestGetReturnsOneMessageThatIsSettledOnce(t *testing.T) {
	b := newBench(t)
	if _, ok, err := consumer.Get(t.Context(), b.conn, "orders"); ok || err != nil {
		t.Errorf("Get from an empty queue = %v, %v", ok, err)
	}
	b.publish("a", "b")
	d, ok, err := consumer.Get(t.Context(), b.conn, "orders")
	if err != nil || !ok || string(d.Body) != "a" {
		t.Fatalf("Get = %v, %v, %v", d, ok, err)
	}
	if err := d.Ack(false); err != nil {
		t.Error(err)
	}
	if err := d.Ack(false); !errors.Is(err, consumer.ErrAlreadySettled) {
		t.Errorf("a second Ack = %v, want ErrAlreadySettled", err)
	}
	d, _, err = consumer.Get(t.Context(), b.conn, "orders")
	if err != nil {
		t.Fatal(err)
	}
	lost, err := b.conn.ConsumeConnection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closed := lost.NotifyClose(make(chan *amqp.Error, 1))
	b.DropConnections()
	if reason := <-closed; reason == nil {
		t.Fatal("the connection was closed cleanly")
	}
	if err := d.Ack(false); !errors.Is(err, consumer.ErrStaleDelivery) {
		t.Errorf("an Ack after the loss = %v, want ErrStaleDelivery", err)
	}
	b.await(func() bool { return b.queue("orders").Ready == 1 })
}
