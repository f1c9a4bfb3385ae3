package consumer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestSubscribeTimesOutIfTheBrokerDoesNotAnswer(t *testing.T) {
	for name, m := range map[string]method{"channel.open": openChannel, "basic.qos": qos, "basic.consume": consume} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &connections{mute: m}
				c, end := runOn(t, b, Config{}, nop)
				time.Sleep(subscribeTime - time.Second)
				synctest.Wait()
				if err := c.Err(); err != ErrNotSubscribed {
					t.Errorf("Err = %v after 9 s, want ErrNotSubscribed", err)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				var failed *SubscribeError
				if err := c.Err(); !errors.As(err, &failed) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Err = %v, want a *SubscribeError for the timeout", err)
				}
				b.mu.Lock()
				b.mute = method{}
				if !b.links[0].ac.IsClosed() {
					t.Error("the connection that did not answer is still open")
				}
				b.mu.Unlock()
				time.Sleep(2 * subscribeTime)
				if err := c.Ready(t.Context()); err != nil {
					t.Errorf("Ready = %v", err)
				}
				if err := end(); err != nil {
					t.Errorf("Run = %v", err)
				}
			})
		})
	}
}

func TestDeclareTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{mute: declareQueue}
		c, end := runOn(t, b, Config{Declare: func(_ context.Context, ac *amqp.Connection) (string, error) {
			ch, err := ac.Channel()
			if err != nil {
				return "", err
			}
			_, err = ch.QueueDeclare("orders", true, false, false, false, nil) // does not take a ctx
			return "", err
		}}, nop)
		time.Sleep(declareTime - time.Second)
		synctest.Wait()
		if err := c.Err(); err != ErrNotSubscribed || b.count(declareQueue) != 1 {
			t.Errorf("Err = %v after 59 s and %d calls, want ErrNotSubscribed", err, b.count(declareQueue))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		var failed *SubscribeError
		if err := c.Err(); !errors.As(err, &failed) || !errors.Is(err, errDeclareTimeout) {
			t.Errorf("Err = %v, want a *SubscribeError for the timeout", err)
		}
		if err := end(); !errors.Is(err, ErrNotSubscribed) {
			t.Errorf("Run = %v, want ErrNotSubscribed", err)
		}
	})
}
