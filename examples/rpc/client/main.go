// Client requests a Fibonacci number from the server and waits for the reply.
//
//	go run ./examples/rpc/client 30
//
// It uses RabbitMQ's direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to), which needs no reply queue. A client
// must consume from the pseudo-queue amq.rabbitmq.reply-to without acknowledgements, on the channel that publishes the
// requests. Consumer and Producer use separate channels, so this program uses a raw channel. If the channel closes before
// the reply arrives, the reply is lost and the client must send the request again.
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
	// Consume before publishing: the broker rejects the reply-to address of a channel that does not consume from it.
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
		Expiration:    fmt.Sprint(timeout.Milliseconds()), // a server need not process a request that timed out
		Body:          request,
	})
	if err != nil {
		return nil, err
	}
	for {
		select {
		case reply, ok := <-replies:
			if !ok {
				return nil, errors.New("connection lost before the reply arrived; try again")
			}
			if reply.CorrelationId == id { // other replies belong to earlier calls
				return reply.Body, nil
			}
		case r, ok := <-returns:
			if !ok {
				returns = nil // closed with the channel, like replies
				continue
			}
			return nil, fmt.Errorf("%s: queue %q does not exist; start the server first", r.ReplyText, queue)
		case <-ctx.Done():
			return nil, fmt.Errorf("no reply within %v: %w", timeout, ctx.Err())
		}
	}
}
