package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// A broker is the broker that the demo runs on.
type broker interface {
	fmt.Stringer
	URL() string
	// messages returns the number of messages in the queue.
	messages(ctx context.Context) (int, error)
	// printNextSteps prints, after a successful demo, whether the broker continues to run and how to use one.
	printNextSteps(out io.Writer)
	Close(ctx context.Context) error
}

// startBroker starts RabbitMQ if that is possible without installing anything. Otherwise it starts amqptest and explains
// why.
func startBroker(ctx context.Context, out io.Writer) (broker, error) {
	b, err := rabbit.Start(ctx, rabbit.Options{Keep: true, InstalledOnly: true})
	var unavailable *rabbit.UnavailableError
	switch {
	case err == nil && b.Owned():
		return demoBroker{b}, nil
	case err == nil:
		return externalBroker{b}, nil
	case !errors.As(err, &unavailable):
		return nil, err
	}
	fallback, err := amqptest.New(amqptest.Config{})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "No RabbitMQ is available, so this demo runs on amqptest, amqpkit's own broker for tests, which behaves like\n"+
		"RabbitMQ 4.3. It runs inside the demo process at %s, stores nothing on disk and stops with the demo.\n%s\n\n",
		fallback.Addr(), unavailable.Tried())
	return testBroker{fallback}, nil
}

// A demoBroker is a RabbitMQ that this demo or an earlier one started.
type demoBroker struct{ *rabbit.Broker }

func (b demoBroker) messages(ctx context.Context) (int, error) {
	c, err := b.Queue(ctx, queue)
	return c.Ready + c.Unacked, err
}

func (b demoBroker) printNextSteps(out io.Writer) {
	fmt.Fprintf(out, "\nBroker left running: %s\n", b)
	fmt.Fprintf(out, "  try:     AMQP_URL=%s go run ./examples/hello/send\n", b.URL())
	fmt.Fprintln(out, "  stop it: make demo-stop")
}

// An externalBroker is the broker from AMQP_URL.
type externalBroker struct{ *rabbit.Broker }

// messages does not count unacknowledged deliveries: AMQP does not report them.
func (b externalBroker) messages(ctx context.Context) (int, error) {
	conn, err := amqp.DialConfig(b.URL(), amqp.Config{Dial: amqp.DefaultDial(10 * time.Second)})
	if err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.CloseDeadline(time.Now()) })()
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return 0, err
	}
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	return q.Messages, err
}

func (externalBroker) printNextSteps(io.Writer) {}

// A testBroker is amqptest, inside this process.
type testBroker struct{ *amqptest.Broker }

func (testBroker) String() string { return "amqptest" }

func (b testBroker) messages(context.Context) (int, error) {
	q, _ := b.Queue(queue)
	return q.Ready + q.Unacked, nil
}

func (testBroker) printNextSteps(out io.Writer) {
	fmt.Fprintf(out, "\nBroker stopped: amqptest. To use RabbitMQ, do one of the following and run the demo again:\n%s\n", rabbit.Ways)
}

func (b testBroker) Close(context.Context) error { return b.Broker.Close() }
