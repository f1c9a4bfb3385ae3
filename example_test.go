package amqpkit_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/topology"
)

func ExampleDial() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := amqpkit.Dial(ctx, "amqp://guest:guest@localhost:5672/")
	switch {
	case errors.Is(err, amqpkit.ErrLogin), errors.Is(err, amqpkit.ErrVhost):
		log.Fatal(err) // the login or the virtual host must be corrected
	case err != nil:
		log.Print(err) // the broker may come up later: see Open
		return
	}
	defer func() { _ = conn.Close(context.Background()) }()
}

// A service starts before its broker, declares its topology on every new session, and goes
// from one node of the cluster to the next.
func ExampleOpen() {
	orders := topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
	conn, err := amqpkit.Open(amqpkit.Config{
		URLs:  []string{"amqps://billing@rabbit-1/", "amqps://billing@rabbit-2/", "amqps://billing@rabbit-3/"},
		Name:  "billing",
		Setup: orders.Declare,
		Credentials: func(context.Context) (amqpkit.Credentials, error) {
			return amqpkit.Credentials{Username: "billing", Password: "from the vault"}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := conn.Ready(ctx); err != nil {
		log.Print(err) // with the last failure to connect
	}
}

// A program reports every change until the Conn is closed.
func ExampleConn_Changed() {
	watch := func(conn *amqpkit.Conn) {
		for {
			changed := conn.Changed()
			err := conn.Err()
			var missing *amqpkit.MissingError
			switch {
			case err == nil:
				log.Print("ready")
			case errors.Is(err, amqpkit.ErrClosed):
				log.Print(err)
				return
			case errors.As(err, &missing):
				log.Print("connected without the queues ", missing.Queues)
			default:
				log.Print("connecting: ", err)
			}
			<-changed
		}
	}
	_ = watch
}

// A subscriber's queue becomes known at run time. Every later session declares it too.
func ExampleConn_AddSetup() {
	conn, err := amqpkit.Open(amqpkit.Config{URLs: []string{"amqp://guest:guest@localhost:5672/"}})
	if err != nil {
		log.Fatal(err)
	}
	subscribe := func(ctx context.Context, topic string) (unsubscribe func(), err error) {
		added := topology.Topology{
			Exchanges: []topology.Exchange{{Name: topic, Type: topology.Fanout}},
			Queues:    []topology.Queue{{Name: topic + ".billing"}},
			Bindings:  []topology.Binding{{Source: topic, Queue: topic + ".billing"}},
		}
		return conn.AddSetup(ctx, added.Declare)
	}
	_ = subscribe
}

// A malformed URL is told without any part of it: it may hold a piece of the password.
func ExampleFieldError() {
	_, err := amqpkit.Open(amqpkit.Config{URLs: []string{"amqp://bob:pa%ss@localhost/"}})
	var field *amqperr.FieldError
	if errors.As(err, &field) {
		fmt.Println(field.Field, field.Problem)
	}
	// Output: URLs[0] has a % that no two hexadecimal digits follow
}
