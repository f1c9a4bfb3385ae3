// Confirms publishes in the three ways that there are, provokes the errors that there are, and says what each
// outcome means.
//
//	go run ./examples/confirms
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// Both queues are gone a minute after the last run. The second one holds a single message and refuses more;
// it is a classic queue because a quorum queue applies the limit loosely.
var queues = topology.Topology{Queues: []topology.Queue{
	{Name: "confirms", Expires: time.Minute},
	{Name: "confirms.full", Expires: time.Minute, Type: topology.Classic, MaxLength: 1, Overflow: topology.RejectPublish},
}}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// It bounds every publish below, waiting for a broker that is away included.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:  []string{cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/")},
		Setup: queues.Declare,
	})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())

	p, err := producer.New(conn, producer.Config{MaxMessageSize: 1 << 20})
	if err != nil {
		return err
	}

	// One by one: the simplest way, and the slowest, for each message waits for its own round trip.
	for i := range 3 {
		report(fmt.Sprint("single ", i), p.Publish(ctx, "", "confirms", amqp.Publishing{Body: []byte("single")}))
	}

	// A batch: all are on their way at once, and each has its own outcome.
	batch := make([]producer.Message, 3)
	for i := range batch {
		batch[i] = producer.Message{Key: "confirms", Publishing: amqp.Publishing{Body: []byte("batch")}}
	}
	for i, err := range p.PublishAll(ctx, batch) {
		report(fmt.Sprint("batch ", i), err)
	}

	// A stream: publish on, and look at the receipts when it suits. A full window makes PublishAsync wait.
	var receipts []*producer.Receipt
	for i := range 3 {
		receipt, err := p.PublishAsync(ctx, "", "confirms", amqp.Publishing{Body: []byte("async")})
		if err != nil {
			report(fmt.Sprint("async ", i), err)
			continue
		}
		receipts = append(receipts, receipt)
	}
	for i, receipt := range receipts {
		report(fmt.Sprint("async ", i), receipt.Wait(ctx))
	}

	// What goes wrong, on purpose.
	report("misspelt", p.Publish(ctx, "", "confirmz", amqp.Publishing{Body: []byte("for nobody")}))
	report("first of one", p.Publish(ctx, "", "confirms.full", amqp.Publishing{Body: []byte("fits")}))
	report("second of one", p.Publish(ctx, "", "confirms.full", amqp.Publishing{Body: []byte("does not")}))
	report("too large", p.Publish(ctx, "", "confirms", amqp.Publishing{Body: make([]byte, 2<<20)}))

	// Close waits for what is in flight: after it every message has its outcome.
	return p.Close(ctx)
}

// report says what a caller can make of an outcome.
func report(what string, err error) {
	var outcome string
	switch returned, ok := errors.AsType[*producer.ReturnedError](err); {
	case err == nil:
		outcome = "stored"
	case ok:
		outcome = fmt.Sprintf("not stored: nothing is bound for the key %q; correct it, or declare the queue", returned.Key)
	case errors.Is(err, producer.ErrNacked):
		outcome = "refused by the broker, here because the queue is full; publish it later, or drop it"
	case errors.Is(err, producer.ErrNotPublished):
		outcome = "never sent; publishing it again makes no duplicate: " + err.Error()
	case errors.Is(err, producer.ErrUnconfirmed): // ctx ended while the broker was away
		outcome = "may be stored; publish it again only if its consumers bear a duplicate: " + err.Error()
	default:
		outcome = err.Error()
	}
	fmt.Printf("%-14s %s\n", what+":", outcome)
}
