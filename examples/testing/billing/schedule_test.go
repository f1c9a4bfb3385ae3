package billing

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
)

// Are delays in the broker correct? The test controls the broker's clock, so a day passes immediately.
func TestReminderFollowsADayAfterTheInvoice(t *testing.T) {
	broker := amqptest.Start(t, amqptest.Config{ManualClock: true})
	start(t, broker)
	order(t, broker, `{"ID": "7", "Cents": 1250}`)
	await(t, broker, func() bool { return len(broker.Messages("reminders.wait")) == 1 && settled(broker) })

	broker.Advance(24*time.Hour - time.Millisecond)
	if n := len(broker.Messages("reminders")); n != 0 {
		t.Errorf("%d reminders a millisecond before the day has passed, want 0", n)
	}
	broker.Advance(time.Millisecond)
	if got := broker.Messages("reminders"); len(got) != 1 || got[0].MessageID != "reminder-7" {
		t.Errorf("reminders after a day: %+v", got)
	}
}

// Are delays in the program correct? In a testing/synctest bubble, the service and the broker use the bubble's fake clock.
// The broker must be in memory, because the clock does not advance while a goroutine waits for the network.
func TestFailingOrderIsRetriedWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := amqptest.Start(t, amqptest.Config{InMemory: true})
		conn, err := amqpkit.DialConfig(t.Context(), amqpkit.Config{
			URLs: []string{broker.URL()}, Dialer: broker.Dial, Setup: Topology.Declare,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		began, tries := time.Now(), []time.Duration(nil)
		c, err := consumer.New(conn, consumer.Config{Queue: "orders", HasDeadLetterExchange: true},
			func(context.Context, *consumer.Delivery) error {
				tries = append(tries, time.Since(began).Round(time.Second))
				if len(tries) < 5 {
					return errors.New("payment service unavailable")
				}
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		order(t, broker, `{"ID": "7"}`)
		if err := c.Run(ctx); err != nil { // a minute of the fake clock
			t.Error(err)
		}
		want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}
		if !slices.Equal(tries, want) {
			t.Errorf("handled after %v, want %v", tries, want)
		}
	})
}
