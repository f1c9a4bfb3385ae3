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

// A broker is what the demo runs on.
type broker interface {
	fmt.Stringer
	URL() string
	// left returns how many messages the queue holds.
	left(ctx context.Context) (int, error)
	// farewell says what becomes of the broker, at the end of a demo that went well.
	farewell(out io.Writer)
	Close(ctx context.Context) error
}

// startBroker takes a RabbitMQ that can be had without installing anything; else the one of package amqptest, and says so.
func startBroker(ctx context.Context, out io.Writer) (broker, error) {
	b, err := rabbit.Start(ctx, rabbit.Options{Keep: true, InstalledOnly: true})
	var unavailable *rabbit.UnavailableError
	switch {
	case err == nil && b.Owned():
		return keptBroker{b}, nil
	case err == nil:
		return foreignBroker{b}, nil
	case !errors.As(err, &unavailable):
		return nil, err
	}
	stand, err := amqptest.New(amqptest.Config{})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "There is no RabbitMQ here, so this demo runs on amqptest: a broker of amqpkit's own, for tests, that behaves like\n"+
		"RabbitMQ 4.3. It lives in the demo's process, at %s, keeps nothing on disk, and is gone when the demo ends.\n%s\n\n",
		stand.Addr(), unavailable.Tried())
	return testBroker{stand}, nil
}

// A keptBroker is a RabbitMQ that was started here, or by an earlier demo.
type keptBroker struct{ *rabbit.Broker }

func (b keptBroker) left(ctx context.Context) (int, error) {
	c, err := b.Queue(ctx, queue)
	return c.Ready + c.Unacked, err
}

func (b keptBroker) farewell(out io.Writer) {
	fmt.Fprintf(out, "\nBroker left running: %s\n", b)
	fmt.Fprintf(out, "  try:     AMQP_URL=%s go run ./examples/hello/send\n", b.URL())
	fmt.Fprintln(out, "  stop it: make demo-stop")
}

// A foreignBroker is the one from AMQP_URL.
type foreignBroker struct{ *rabbit.Broker }

// left does not see what is delivered and not acknowledged.
func (b foreignBroker) left(ctx context.Context) (int, error) {
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

func (foreignBroker) farewell(io.Writer) {}

// A testBroker lives in this process.
type testBroker struct{ *amqptest.Broker }

func (testBroker) String() string { return "amqptest" }

func (b testBroker) left(context.Context) (int, error) {
	q, _ := b.Queue(queue)
	return q.Ready + q.Unacked, nil
}

func (testBroker) farewell(out io.Writer) {
	fmt.Fprintf(out, "\nBroker ended: amqptest. For a RabbitMQ, do one of these and run the demo again:\n%s\n", rabbit.Ways)
}

// Close ends it before the process does.
func (b testBroker) Close(context.Context) error { return b.Broker.Close() }
