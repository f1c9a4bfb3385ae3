// Confirms publishes in all three ways (one by one, in a batch, asynchronously), provokes publish errors and prints what
// each outcome means.
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

// RabbitMQ deletes both queues after a minute without use. The second queue holds one message and rejects further ones.
// It is a classic queue, because quorum queues do not enforce the limit exactly.
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
	// The timeout applies to all publishes below, including the time until an unreachable broker is back.
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

	// One by one: the simplest way, but slow, because each message waits for a round trip.
	for i := range 3 {
		report(fmt.Sprint("single ", i), p.Publish(ctx, "", "confirms", amqp.Publishing{Body: []byte("single")}))
	}

	// A batch: PublishAll does not wait for a confirm between messages. Each message has its own outcome.
	batch := make([]producer.Message, 3)
	for i := range batch {
		batch[i] = producer.Message{Key: "confirms", Publishing: amqp.Publishing{Body: []byte("batch")}}
	}
	for i, err := range p.PublishAll(ctx, batch) {
		report(fmt.Sprint("batch ", i), err)
	}

	// Asynchronously: publish and check the receipts later. PublishAsync blocks if too many messages are unconfirmed.
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

	// Deliberate failures.
	report("misspelt", p.Publish(ctx, "", "confirmz", amqp.Publishing{Body: []byte("unroutable")}))
	report("queue empty", p.Publish(ctx, "", "confirms.full", amqp.Publishing{Body: []byte("fits")}))
	report("queue full", p.Publish(ctx, "", "confirms.full", amqp.Publishing{Body: []byte("rejected")}))
	report("too large", p.Publish(ctx, "", "confirms", amqp.Publishing{Body: make([]byte, 2<<20)}))

	// Close waits until every message has an outcome.
	return p.Close(ctx)
}

// report prints an outcome and a recommendation for the caller.
func report(what string, err error) {
	var outcome string
	switch returned, ok := errors.AsType[*producer.ReturnedError](err); {
	case err == nil:
		outcome = "stored"
	case ok:
		outcome = fmt.Sprintf("not stored: no queue is bound for routing key %q; fix the key or declare the queue", returned.Key)
	case errors.Is(err, producer.ErrNacked):
		outcome = "rejected by the broker, here because the queue is full; publish it later or drop it"
	case errors.Is(err, producer.ErrNotPublished):
		outcome = "never sent; publishing it again cannot create a duplicate: " + err.Error()
	case errors.Is(err, producer.ErrUnconfirmed): // ctx was done before the broker confirmed the message
		outcome = "may be stored; publish it again only if the consumers tolerate duplicates: " + err.Error()
	default:
		outcome = err.Error()
	}
	fmt.Printf("%-14s %s\n", what+":", outcome)
}
