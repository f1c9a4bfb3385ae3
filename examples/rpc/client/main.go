// Client asks the server for a Fibonacci number and waits for the reply.
//
//	go run ./examples/rpc/client 30
//
// It uses a raw channel. RabbitMQ's direct reply-to needs no reply queue, but has rules of its own
// (https://www.rabbitmq.com/docs/direct-reply-to): replies are consumed without acknowledgement, from the
// pseudo-queue amq.rabbitmq.reply-to, on the channel that publishes the requests. A Consumer acknowledges and
// a Producer publishes on a channel of its own. A reply that was lost with the channel is lost for good: the
// client asks again.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
)

const timeout = 30 * time.Second

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: client NUMBER")
	}
	if _, err := strconv.Atoi(os.Args[1]); err != nil {
		log.Fatal("usage: client NUMBER: ", err)
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(n string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	conn, err := amqpkit.Dial(ctx, cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/"))
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())

	fmt.Printf(" [x] Requesting fib(%s)\n", n)
	reply, err := call(ctx, conn, "rpc.fib", []byte(n))
	if err != nil {
		return err
	}
	fmt.Printf(" [.] Got %s\n", reply)
	return nil
}

// call publishes a request to a queue and returns the reply.
func call(ctx context.Context, conn *amqpkit.Conn, queue string, request []byte) ([]byte, error) {
	ch, err := conn.Channel(ctx)
	if err != nil {
		return nil, err
	}
	defer ch.Close()
	// First consume, then publish: the broker refuses the address of a channel that does not consume.
	replies, err := ch.ConsumeWithContext(ctx, "amq.rabbitmq.reply-to", "", true, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	returns := ch.NotifyReturn(make(chan amqp.Return, 1))
	id := rand.Text()
	const mandatory, immediate = true, false
	err = ch.PublishWithContext(ctx, "", queue, mandatory, immediate, amqp.Publishing{
		ReplyTo:       "amq.rabbitmq.reply-to",
		CorrelationId: id,
		Expiration:    fmt.Sprint(timeout.Milliseconds()), // no server should work for a client that is gone
		Body:          request,
	})
	if err != nil {
		return nil, err
	}
	for {
		select {
		case reply, ok := <-replies:
			if !ok {
				return nil, errors.New("the connection was lost before the reply came; ask again")
			}
			if reply.CorrelationId == id { // others answer an earlier call
				return reply.Body, nil
			}
		case r, ok := <-returns:
			if !ok {
				returns = nil // closed with the channel, as replies is
				continue
			}
			return nil, fmt.Errorf("%s: there is no queue %q; start the server first", r.ReplyText, queue)
		case <-ctx.Done():
			return nil, fmt.Errorf("no reply within %v: %w", timeout, ctx.Err())
		}
	}
}
