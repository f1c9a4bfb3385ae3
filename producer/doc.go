// Package producer publishes messages to RabbitMQ and reports the true outcome of each one.
//
// Publish returns nil when the broker has routed the message to a queue and confirmed it. Every other outcome has its own error.
// [MaybeDelivered] reports whether the message may have reached its queue, so that publishing it again may create a duplicate.
//
//	p, err := producer.New(conn, producer.Config{})
//	if err != nil {
//		return err
//	}
//	defer p.Close(context.Background())
//
//	err = p.Publish(ctx, "orders", "order.paid", amqp.Publishing{Body: body})
//	var returned *producer.ReturnedError
//	switch {
//	case err == nil: // routed and confirmed
//	case errors.As(err, &returned): // no queue is bound for this key
//	case errors.Is(err, producer.ErrNacked): // the broker refused it, for example a full queue
//	case errors.Is(err, producer.ErrNotPublished): // no queue has it: safe to publish again
//	case errors.Is(err, producer.ErrUnconfirmed): // may have been stored: a duplicate is possible
//	}
//
// Each message is sent as persistent, with the mandatory flag and a message id. After the connection is lost, unconfirmed messages are
// sent again under the same message id, unless Config.NoResend is set. The number of unconfirmed messages is limited: at the limit,
// Publish waits.
//
// # Ownership of messages
//
// Body and Headers are not copied. The Producer reads them until the message has its outcome, and never changes them. After nil,
// [ReturnedError], [ErrNacked] and [ErrNotPublished] the caller may change or reuse them. After [ErrUnconfirmed] it must not, because
// Publish may return when ctx ends, while the message is still being written.
//
// # Received messages
//
// [Producer.Republish] and [Producer.RepublishAsync] publish a received message again with its properties and headers unchanged. Packages
// retry and parking use them.
package producer
