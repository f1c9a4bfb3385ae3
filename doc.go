// Package amqpkit keeps connections to RabbitMQ alive and hands out the current session.
//
// A [Conn] is two TCP connections, opened when first needed: one publishes and one consumes,
// so that a publisher that the broker blocks never stalls acknowledgements. A lost connection
// is replaced by a new session, for ever, with jittered exponential backoff over all URLs;
// [Config.Setup] runs on every new session before anyone gets it.
//
//	conn, err := amqpkit.Dial(ctx, "amqp://guest:guest@localhost:5672/", topology.Queues("hello").Declare)
//	if err != nil {
//		return err // typed: login, virtual host, network, TLS, …
//	}
//	defer conn.Close(context.Background())
//
//	p, err := producer.New(conn, producer.Config{})
//	…
//	err = p.Publish(ctx, "", "hello", amqp.Publishing{Body: []byte("Hello World!")})
//
// The packages producer and consumer do the publishing and consuming, topology declares what
// they use. Each asks a Conn for its session through an interface of one method, so each works
// with any other source of sessions too. Passwords and tokens never appear in errors, logs
// or the formatting of this package's types.
package amqpkit
