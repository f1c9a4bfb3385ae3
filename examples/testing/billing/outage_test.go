package billing

import (
	"slices"
	"testing"

	"github.com/amqpkit/amqpkit/amqptest"
)

// How does the service behave if the broker fails at the worst moment, before it confirms a stored message?
func TestOrderIsBilledDespiteAnOutage(t *testing.T) {
	for name, outage := range map[string]func(*amqptest.Broker) error{
		"connections lost": func(broker *amqptest.Broker) error {
			broker.DropConnections()
			broker.ReleaseConfirms()
			return nil
		},
		"broker killed": func(broker *amqptest.Broker) error {
			broker.Kill()
			return broker.Start()
		},
		"broker restarted": func(broker *amqptest.Broker) error {
			broker.Stop()
			return broker.Start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			broker := amqptest.Start(t)
			start(t, broker)
			broker.HoldConfirms() // the outage begins after the invoice was stored and before it is confirmed
			order(t, broker, `{"ID": "7", "Cents": 1250}`)
			await(t, broker, func() bool { return len(broker.Messages("invoices")) == 1 })
			if err := outage(broker); err != nil {
				t.Fatal(err)
			}
			await(t, broker, func() bool { return len(broker.Messages("reminders.wait")) > 0 && settled(broker) })

			// The invoice was stored before the outage, sent again by the producer, and published once more when the order
			// was redelivered. Nothing is lost, and the message id identifies the duplicates.
			invoices := broker.Messages("invoices")
			if len(invoices) != 3 {
				t.Errorf("%d invoices, want 3", len(invoices))
			}
			for _, m := range invoices {
				if m.MessageID != "invoice-7" || string(m.Body) != "7: 12.50" {
					t.Errorf("invoice: %+v", m)
				}
			}
		})
	}
}

// How does the service behave while a memory alarm blocks publishers?
func TestOrderWaitsWhileTheBrokerBlocksPublishers(t *testing.T) {
	broker := amqptest.Start(t)
	start(t, broker)
	broker.Block("low on memory")
	order(t, broker, `{"ID": "7", "Cents": 1250}`)
	await(t, broker, func() bool {
		return slices.ContainsFunc(broker.Connections(), func(c amqptest.Connection) bool { return c.Blocked })
	})
	if q, _ := broker.Queue("orders"); q.Unacked != 1 || len(broker.Messages("invoices")) != 0 {
		t.Errorf("orders while blocked: %+v, invoices: %d; want one unacknowledged order and no invoice", q, len(broker.Messages("invoices")))
	}
	broker.Unblock()
	await(t, broker, func() bool { return len(broker.Messages("reminders.wait")) == 1 && settled(broker) })
}
