package amqptest_test

import (
	"context"
	"fmt"
	"log"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
)

// The broker becomes silent. A service that waits without a deadline waits until heartbeats are missed.
func Example() {
	broker := startBroker() // or a RabbitMQ
	defer broker.Close()
	proxy, err := amqptest.NewProxy(broker.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Close()
	ch := connect(proxy.URL())

	proxy.Blackhole(amqptest.FromBroker)
	confirm, err := ch.PublishWithDeferredConfirm("", "orders", true, false, amqp.Publishing{Body: []byte("order 1")})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err = confirm.WaitContext(ctx)
	fmt.Println("after 100 ms:", err)
	// Output: after 100 ms: context deadline exceeded
}

// The broker has stored the message, but the connection is cut just before the confirm arrives. "Not confirmed" does
// not mean "not stored".
func ExampleFaults_CutAt() {
	broker := startBroker()
	defer broker.Close()
	proxy, err := amqptest.NewProxy(broker.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Close()
	ch := connect(proxy.URL())

	proxy.CutAt(amqptest.FromBroker, amqptest.BeforeFrame, amqptest.IsConfirm)
	confirm, err := ch.PublishWithDeferredConfirm("", "orders", true, false, amqp.Publishing{Body: []byte("order 1")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("confirmed:", confirm.Wait())
	fmt.Println("stored:", len(broker.Messages("orders")))
	// Output:
	// confirmed: false
	// stored: 1
}

// The connection is cut in the middle of a frame. The broker does not store half a message.
func ExampleFaults_CutAfter() {
	broker := startBroker()
	defer broker.Close()
	proxy, err := amqptest.NewProxy(broker.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Close()
	ch := connect(proxy.URL())

	proxy.CutAfter(amqptest.FromClient, 500)
	confirm, err := ch.PublishWithDeferredConfirm("", "orders", true, false, amqp.Publishing{Body: make([]byte, 1000)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("confirmed:", confirm.Wait())
	fmt.Println("stored:", len(broker.Messages("orders")))
	// Output:
	// confirmed: false
	// stored: 0
}

// Only the confirms are late. The connection is healthy.
func ExampleFaults_HoldConfirms() {
	broker := startBroker()
	defer broker.Close()
	proxy, err := amqptest.NewProxy(broker.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Close()
	ch := connect(proxy.URL())

	proxy.HoldConfirms()
	stored := proxy.Next(func(e amqptest.Event) bool { return e.Kind == amqptest.ConfirmHeld })
	confirm, err := ch.PublishWithDeferredConfirm("", "orders", true, false, amqp.Publishing{Body: []byte("order 1")})
	if err != nil {
		log.Fatal(err)
	}
	<-stored // stored by the broker, unknown to the client
	fmt.Println("confirmed:", confirm.Acked())
	proxy.ReleaseConfirms()
	fmt.Println("confirmed:", confirm.Wait())
	// Output:
	// confirmed: false
	// confirmed: true
}

// A memory alarm, as a client sees it.
func ExampleFaults_Inject() {
	broker := startBroker()
	defer broker.Close()
	proxy, err := amqptest.NewProxy(broker.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Close()
	conn, err := amqp.Dial(proxy.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	proxy.Inject(amqptest.FromBroker, amqptest.ConnectionBlocked("low on memory"))
	fmt.Printf("%+v\n", <-blocked)
	proxy.Inject(amqptest.FromBroker, amqptest.ConnectionUnblocked())
	fmt.Printf("%+v\n", <-blocked)
	// Output:
	// {Active:true Reason:low on memory}
	// {Active:false Reason:}
}

// One of several services loses its connection.
func ExampleFaults_ForLinks() {
	broker := startBroker()
	defer broker.Close()
	proxy, err := amqptest.NewProxy(broker.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Close()
	lost := map[string]chan *amqp.Error{}
	for _, name := range []string{"billing", "shipping"} {
		conn, err := amqp.DialConfig(proxy.URL(), amqp.Config{Properties: amqp.Table{"connection_name": name}})
		if err != nil {
			log.Fatal(err)
		}
		defer conn.Close()
		lost[name] = conn.NotifyClose(make(chan *amqp.Error, 1))
	}

	billing := proxy.ForLinks(func(l amqptest.Link) bool { return l.Name == "billing" })
	fmt.Println("cut:", billing.Cut(), "left:", proxy.Links())
	fmt.Println("billing received:", (<-lost["billing"]).Code)
	// Output:
	// cut: 1 left: 1
	// billing received: 501
}

// The proxy reports the frames on the wire, independently of the client.
func ExampleProxy_Observe() {
	broker := startBroker()
	defer broker.Close()
	proxy, err := amqptest.NewProxy(broker.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Close()
	ch := connect(proxy.URL())

	proxy.Observe(func(e amqptest.Event) {
		fmt.Println(e.Kind, e.Tag, e.MessageID)
	})
	confirmed := proxy.Next(func(e amqptest.Event) bool { return e.Kind == amqptest.Confirmed })
	if err := ch.Publish("", "orders", true, false, amqp.Publishing{MessageId: "order 1"}); err != nil {
		log.Fatal(err)
	}
	<-confirmed
	proxy.Observe(nil)
	// Unordered output:
	// Published 1 order 1
	// Confirmed 1 order 1
}

// connect returns a channel in confirm mode. Its connection ends when the proxy or the broker is closed.
func connect(url string) *amqp.Channel {
	conn, err := amqp.Dial(url)
	if err != nil {
		log.Fatal(err)
	}
	ch, err := conn.Channel()
	if err != nil {
		log.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		log.Fatal(err)
	}
	return ch
}

// startBroker starts a broker in the process with the queue orders.
func startBroker() *amqptest.Broker {
	b, err := amqptest.New(amqptest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ch := connect(b.URL())
	if _, err := ch.QueueDeclare("orders", true, false, false, false, nil); err != nil {
		log.Fatal(err)
	}
	return b
}
