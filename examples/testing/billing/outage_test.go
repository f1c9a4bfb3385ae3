package billing

import (
	"slices"
	"testing"

	"github.com/amqpkit/amqpkit/amqptest"
)

// What does my service do when the broker goes away? These are the moments at which that hurts.
func TestAnOrderIsBilledThroughAnOutage(t *testing.T) {
	for name, outage := range map[string]func(*amqptest.Broker) error{
		"the connections break": func(broker *amqptest.Broker) error {
			broker.DropConnections()
			broker.ReleaseConfirms()
			return nil
		},
		"the broker is killed": func(broker *amqptest.Broker) error {
			broker.Kill()
			return broker.StartAgain()
		},
		"the broker is restarted": func(broker *amqptest.Broker) error {
			broker.Stop()
			return broker.StartAgain()
		},
	} {
		t.Run(name, func(t *testing.T) {
			broker := amqptest.Start(t)
			start(t, broker)
			broker.HoldConfirms() // the invoice is stored, and the service does not know when the broker goes
			order(t, broker, `{"ID": "7", "Cents": 1250}`)
			await(t, broker, func() bool { return len(broker.Messages("invoices")) == 1 })
			if err := outage(broker); err != nil {
				t.Fatal(err)
			}
			await(t, broker, func() bool { return len(broker.Messages("reminders.wait")) > 0 && settled(broker) })

			// Stored, sent again by the producer, and sent once more when the order came back: nothing is lost, and who
			// reads the invoices can tell that they are one.
			invoices := broker.Messages("invoices")
			if len(invoices) != 3 {
				t.Errorf("%d invoices, want 3", len(invoices))
			}
			for _, m := range invoices {
				if m.MessageID != "invoice-7" || string(m.Body) != "7: 12.50" {
					t.Errorf("an invoice %+v", m)
				}
			}
		})
	}
}

// Memory is low on the broker, and it takes no invoice: the order waits, and is billed when the broker takes it.
func TestAnOrderWaitsWhileTheBrokerTakesNothing(t *testing.T) {
	broker := amqptest.Start(t)
	order(t, broker, `{"ID": "7", "Cents": 1250}`)
	broker.Block("low on memory")
	start(t, broker)
	await(t, broker, func() bool {
		return slices.ContainsFunc(broker.Connections(), func(c amqptest.Connection) bool { return c.Blocked })
	})
	if q, _ := broker.Queue("orders"); q.Unacked != 1 || len(broker.Messages("invoices")) != 0 {
		t.Errorf("while the broker takes nothing: %+v", q)
	}
	broker.Unblock()
	await(t, broker, func() bool { return len(broker.Messages("reminders.wait")) == 1 && settled(broker) })
}
