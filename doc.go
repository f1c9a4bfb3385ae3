// Package amqpkit keeps connections to RabbitMQ alive and hands out the current session.
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
// Package producer publishes, package consumer consumes, and package topology declares their queues and exchanges. Each gets its session from
// the Conn through an interface of one method, so it works with any other source of sessions too. Passwords and tokens never
// appear in errors, logs or the formatting of this package's types.
package amqpkit
