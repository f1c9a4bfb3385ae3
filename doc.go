// Package amqpkit keeps connections to RabbitMQ alive and hands out the current session. A session is one AMQP connection, from its
// handshake to its loss.
//
// A [Conn] has two TCP connections, opened when first needed: one for publishing and one for consuming, so that a blocked publisher never
// delays acknowledgements. It replaces a lost connection by a new session, and retries indefinitely with jittered exponential backoff
// over all URLs. [Config.Setup] runs on every new session before the session is handed out.
//
//	conn, err := amqpkit.Dial(ctx, "amqp://guest:guest@localhost:5672/", topology.Queues("hello").Declare)
//	if err != nil {
//		return err // a *DialError: login, virtual host, network, TLS, …
//	}
//	defer conn.Close(context.Background())
//
//	p, err := producer.New(conn, producer.Config{})
//	…
//	err = p.Publish(ctx, "", "hello", amqp.Publishing{Body: []byte("Hello World!")})
//
// Package producer publishes, package consumer consumes, and package topology declares queues and exchanges. Producer and consumer need
// only a small interface, so they also work with connections that you manage yourself. Passwords and tokens never appear in errors, logs or the formatting of this package's types.
package amqpkit
