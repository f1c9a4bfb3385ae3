package amqptest_test

import (
	"context"
	"fmt"
	"log"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
)

// orders declares the queue orders, which dead-letters rejected messages to orders.dead.
func orders(_ context.Context, ac *amqp.Connection) error {
	ch, err := ac.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	for name, args := range map[string]amqp.Table{
		"orders":      {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "orders.dead"},
		"orders.dead": {"x-queue-type": "quorum"},
	} {
		if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
			return err
		}
	}
	return nil
}

// How does my handler treat invalid messages? A test would use amqptest.Start(t).
func ExampleBroker() {
	b, err := amqptest.New(amqptest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{URLs: []string{b.URL()}, Setup: orders})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, body := range []string{"good", "bad"} {
		if _, err := b.Publish("", "orders", amqptest.Message{Body: []byte(body)}); err != nil {
			log.Fatal(err)
		}
	}

	handler := func(_ context.Context, d *consumer.Delivery) error {
		if string(d.Body) == "bad" {
			return consumer.Reject(fmt.Errorf("not an order"))
		}
		fmt.Printf("handled %s\n", d.Body)
		return nil
	}
	c, err := consumer.New(conn, consumer.Config{Queue: "orders", Workers: 1}, handler)
	if err != nil {
		log.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ran := make(chan error)
	go func() { ran <- c.Run(running) }()

	// Wait for the dead-lettered message, then until everything is settled.
	if err := b.Await(ctx, func() bool { return len(b.Messages("orders.dead")) == 1 }); err != nil {
		log.Fatal(err)
	}
	if err := b.AwaitIdle(ctx); err != nil {
		log.Fatal(err)
	}
	stop()
	if err := <-ran; err != nil {
		log.Fatal(err)
	}
	for _, m := range b.Messages("orders.dead") {
		fmt.Printf("dead: %s, %s\n", m.Body, m.Headers["x-first-death-reason"])
	}
	// Output:
	// handled good
	// dead: bad, rejected
}

// How does my service behave when the broker crashes?
func ExampleBroker_Kill() {
	b, err := amqptest.New(amqptest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := amqpkit.Open(amqpkit.Config{URLs: []string{b.URL()}, Setup: orders})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close(ctx)

	b.HoldConfirms() // stored, but the broker crashes before it confirms
	receipt, err := p.PublishAsync(ctx, "", "orders", amqp.Publishing{Body: []byte("paid")})
	if err != nil {
		log.Fatal(err)
	}
	if err := b.Await(ctx, func() bool { return len(b.Messages("orders")) == 1 }); err != nil {
		log.Fatal(err)
	}
	b.Kill()
	if err := b.Start(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("published:", receipt.Wait(ctx))
	messages := b.Messages("orders")
	fmt.Println(len(messages), "stored, the same message:", messages[0].MessageID == messages[1].MessageID)
	// Output:
	// published: <nil>
	// 2 stored, the same message: true
}

// Are my delays correct? An hour passes at once.
func ExampleBroker_Advance() {
	b, err := amqptest.New(amqptest.Config{ManualClock: true})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	conn, err := amqp.Dial(b.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		log.Fatal(err)
	}
	for name, args := range map[string]amqp.Table{
		"reminders":      nil,
		"reminders.wait": {"x-message-ttl": 3_600_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "reminders"},
	} {
		if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := b.Publish("", "reminders.wait", amqptest.Message{Body: []byte("pay")}); err != nil {
		log.Fatal(err)
	}

	b.Advance(59 * time.Minute)
	fmt.Println("after 59 minutes:", len(b.Messages("reminders")))
	b.Advance(time.Minute)
	fmt.Println("after an hour:", len(b.Messages("reminders")))
	// Output:
	// after 59 minutes: 0
	// after an hour: 1
}

// A test publishes the input of a service in one call, without a connection.
func ExampleBroker_Publish() {
	b, err := amqptest.New(amqptest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	conn, err := amqp.Dial(b.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := orders(context.Background(), conn); err != nil {
		log.Fatal(err)
	}

	routed, err := b.Publish("", "orders", amqptest.Message{MessageID: "order-7", Body: []byte("book")})
	fmt.Println(routed, err)
	_, err = b.Publish("billing", "orders", amqptest.Message{Body: []byte("book")})
	fmt.Println(err)
	// Output:
	// true <nil>
	// amqptest: publish refused: 404 NOT_FOUND - no exchange 'billing' in vhost '/'
}
