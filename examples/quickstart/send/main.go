// Send publishes "Hello World!" to the queue hello, a durable quorum queue. It is the first program of the README.
package main

import (
	"context"
	"errors"
	"log"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

func main() {
	conn, err := amqpkit.Dial(context.Background(), "amqp://guest:guest@localhost:5672/", topology.Queues("hello").Declare)
	if err != nil {
		log.Fatal(err)
	}
	err = producer.Publish(context.Background(), conn, "", "hello", amqp.Publishing{Body: []byte("Hello World!")}) // nil: confirmed
	if err = errors.Join(err, conn.Close(context.Background())); err != nil {
		log.Fatal(err)
	}
}
