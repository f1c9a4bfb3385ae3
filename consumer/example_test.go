package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os/signal"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
)

// conn is the *amqpkit.Conn of the program.
var conn consumer.Connection

func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	c, err := consumer.New(conn, consumer.Config{Queue: "orders", Workers: 8},
		func(ctx context.Context, d *consumer.Delivery) error {
			fmt.Printf("%s\n", d.Body)
			return nil // acknowledged
		})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Run(ctx); err != nil { // drains after a signal
		log.Fatal(err)
	}
}

func ExampleJSON() {
	type Order struct{ ID int }
	handle := consumer.JSON(func(ctx context.Context, o Order) error {
		d, _ := consumer.FromContext(ctx)
		fmt.Println("order", o.ID, "by", d.AppId)
		return nil
	})

	ctx := context.Background()
	fmt.Println(handle(ctx, delivery(`{"ID": 7}`)))
	fmt.Println(handle(ctx, delivery(`order 8`)))
	// Output:
	// order 7 by shop
	// <nil>
	// rejected: decode the body as JSON into consumer_test.Order: invalid character 'o' looking for beginning of value
}

func ExampleHandler() {
	errGone := errors.New("no such customer")
	ship := func(string) error { return errGone }
	open := func() bool { return true }

	handle := func(ctx context.Context, d *consumer.Delivery) error {
		if !open() {
			return consumer.Requeue(time.Minute) // try again in a minute
		}
		err := ship(string(d.Body))
		if errors.Is(err, errGone) {
			return consumer.Reject(err) // a retry cannot succeed
		}
		return err // nil acknowledges; any other error is retried after a delay
	}
	fmt.Println(handle(context.Background(), delivery("7")))
	// Output:
	// rejected: no such customer
}

func ExampleMiddleware() {
	counted := 0
	count := func(next consumer.Handler) consumer.Handler {
		return func(ctx context.Context, d *consumer.Delivery) error {
			err := next(ctx, d)
			if err != nil {
				counted++
			}
			return err
		}
	}
	handle := count(consumer.JSON(func(context.Context, int) error { return nil }))

	ctx := context.Background()
	fmt.Println(handle(ctx, delivery("7")), counted)
	fmt.Println(handle(ctx, delivery("seven")), counted)
	// Output:
	// <nil> 0
	// rejected: decode the body as JSON into int: invalid character 's' looking for beginning of value 1
}

// A middleware labels the results of handlers, for example for metrics.
func ExampleMiddleware_results() {
	label := func(err error) string {
		var panicked *consumer.PanicError
		var rejected *consumer.RejectError
		var postponed *consumer.RequeueError
		switch {
		case err == nil:
			return "acknowledged"
		case errors.As(err, &panicked):
			return "panic"
		case errors.As(err, &rejected) && rejected.Requeue:
			return "requeued as failed"
		case errors.As(err, &rejected):
			return "rejected"
		case errors.As(err, &postponed):
			return "postponed for " + postponed.After.String()
		}
		return "failed"
	}
	err := errors.New("no such customer")
	for _, result := range []error{nil, consumer.Reject(err), consumer.RejectRequeue(err), consumer.Requeue(time.Minute), &consumer.PanicError{Value: err}, err} {
		fmt.Println(label(result))
	}
	// Output:
	// acknowledged
	// rejected
	// requeued as failed
	// postponed for 1m0s
	// panic
	// failed
}

// Limits for untrusted messages: the size as delivered, the decompressed size, and the time of the handler.
func ExampleDecompress() {
	cfg := consumer.Config{
		Queue:       "orders",
		MaxBodySize: 1 << 20,
		Middleware: []consumer.Middleware{
			consumer.Timeout(time.Minute),
			consumer.Decompress(10 << 20),
		},
	}
	_ = cfg

	unknown := delivery("…")
	unknown.ContentEncoding = "br"
	handle := consumer.Decompress(0)(func(context.Context, *consumer.Delivery) error { return nil })
	fmt.Println(handle(context.Background(), unknown))
	// Output:
	// rejected: content-encoding "br": "br" is neither a compression that can be decoded nor a character set
}

func ExampleTimeout() {
	handle := consumer.Timeout(time.Millisecond)(func(ctx context.Context, d *consumer.Delivery) error {
		<-ctx.Done() // like a call that takes ctx
		return context.Cause(ctx)
	})
	fmt.Println(handle(context.Background(), delivery("7")))
	// Output:
	// consumer: the handler took longer than 1ms: context deadline exceeded
}

// RabbitMQ deletes an exclusive queue with its connection, so Declare declares it again before every subscribe.
func ExampleConfig_declare() {
	cfg := consumer.Config{
		Declare: func(ctx context.Context, ac *amqp.Connection) (string, error) {
			ch, err := ac.Channel()
			if err != nil {
				return "", err
			}
			defer ch.Close()
			q, err := ch.QueueDeclare("", false, true, true, false, nil)
			if err != nil {
				return "", err
			}
			return q.Name, ch.QueueBind(q.Name, "", "logs", false, nil)
		},
	}
	_ = cfg
}

func ExampleGet() {
	ctx := context.Background()
	d, ok, err := consumer.Get(ctx, conn, "orders")
	if err != nil {
		log.Fatal(err)
	}
	if !ok {
		fmt.Println("the queue is empty")
		return
	}
	fmt.Printf("%s\n", d.Body)
	if err := d.Ack(false); err != nil {
		log.Fatal(err)
	}
}

func delivery(body string) *consumer.Delivery {
	return &consumer.Delivery{Delivery: amqp.Delivery{Body: []byte(body), AppId: "shop"}}
}

func ExampleBatch() {
	insert := func(_ context.Context, rows []string) error { // one statement for all rows
		fmt.Println("insert", len(rows), "rows")
		return nil
	}
	handle := consumer.Batch(100, 50*time.Millisecond, func(ctx context.Context, ds []*consumer.Delivery) []error {
		errs := make([]error, len(ds))
		var rows []string
		for i, d := range ds {
			if len(d.Body) == 0 {
				errs[i] = consumer.Reject(errors.New("empty")) // applies to this delivery only
				continue
			}
			rows = append(rows, string(d.Body))
		}
		if err := insert(ctx, rows); err != nil {
			for i := range errs {
				errs[i] = err
			}
		}
		return errs
	})

	// Workers for two batches: one fills while the other one is inserted.
	c, err := consumer.New(conn, consumer.Config{Queue: "orders", Workers: 200}, handle)
	_, _ = c, err

	fmt.Println(handle(context.Background(), delivery("7"))) // a single delivery waits for 50 ms
	// Output:
	// insert 1 rows
	// <nil>
}

// Orders of the same customer are handled in order, and orders of different customers concurrently.
func ExampleConfig_key() {
	cfg := consumer.Config{
		Queue:   "orders",
		Workers: 16,
		Key: func(d *consumer.Delivery) string {
			customer, _ := d.Headers["customer"].(string)
			return customer
		},
	}
	_ = cfg
}

// A framework receives from a channel and acknowledges later.
func ExampleHandler_channel() {
	type received struct {
		*consumer.Delivery
		outcome chan<- error // takes one value without blocking: nil acknowledges
	}
	out := make(chan received)
	handle := func(ctx context.Context, d *consumer.Delivery) error {
		outcome := make(chan error, 1)
		select {
		case out <- received{d, outcome}:
		case <-consumer.Draining(ctx): // not received yet
			return consumer.Requeue(time.Second)
		}
		select {
		case err := <-outcome:
			return err
		case <-ctx.Done(): // the drain timeout elapsed
			return context.Cause(ctx)
		}
	}
	c, err := consumer.New(conn, consumer.Config{Queue: "orders", Workers: 10}, handle)
	_, _ = c, err // go c.Run(ctx)

	go func() {
		for m := range out {
			if len(m.Body) == 0 {
				m.outcome <- consumer.Reject(errors.New("empty"))
				continue
			}
			m.outcome <- nil
		}
	}()
	fmt.Println(handle(context.Background(), delivery("7")))
	fmt.Println(handle(context.Background(), delivery("")))
	close(out)
	// Output:
	// <nil>
	// rejected: empty
}
