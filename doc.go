// Package amqpkit keeps connections to RabbitMQ alive and hands out the current session. A session is one AMQP connection, from its
// handshake to its loss.
//
// A [Conn] has up to two TCP connections: one for publishing and one for consuming, so that a blocked publisher never delays
// acknowledgements. [Dial] and [Open] open the first, and the Conn opens the other when it is needed. The Conn replaces a lost connection
// with a new session. It retries indefinitely, with jittered exponential backoff, over all URLs. [Config.Setup] runs on every new session
// before the session is handed out.
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
// only a small interface, so they also work with connections that you manage yourself. Passwords and tokens never appear in errors, logs
// or formatted values.
//
// # Errors
//
// A [DialError] reports the failure at one URL. Its kind is [ErrUnreachable], [ErrTLS], [ErrLogin], [ErrVhost], [ErrLimit], [ErrHandshake],
// [ErrCredentials] or [ErrSetup]. A Conn retries after each of them. It gives up only after a permanent error (amqperr.IsPermanent), or if
// [Config.Backoff] stops. The result of [Conn.Err] then wraps [ErrClosed]. A [MissingError] reports that the queue of a consumer does not
// exist.
//
// # Without the other packages
//
// [Conn.PublishConnection] and [Conn.ConsumeConnection] return the current session for calls of amqp091-go. [Conn.DedicatedConnection]
// opens a connection that the Conn does not replace. Package consumer uses [Conn.LastLoss] and [Conn.QueueMissing] to recover from a
// message that RabbitMQ cannot deliver and from a missing queue.
package amqpkit
