// Package producer publishes messages to RabbitMQ and reports the true outcome of each one.
//
// Publish returns nil when the broker has routed the message to a queue and confirmed it.
// Every other outcome has its own error. [MaybeDelivered] reports whether the message may be in a queue nevertheless.
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
//	case errors.Is(err, producer.ErrNotPublished): // never sent: safe to publish again
//	case errors.Is(err, producer.ErrUnconfirmed): // may have been stored: a duplicate is possible
//	}
//
// Messages are persistent, mandatory and carry a message id; nothing else is added. After the
// connection is lost, unconfirmed messages are sent again under the same message id, unless
// Config.NoResend is set. Messages in flight are bounded; a full window makes publishers wait.
//
// # Ownership of messages
//
// Body and Headers are not copied. The Producer reads them until the message has its outcome, and never changes
// them. After nil, [ReturnedError], [ErrNacked] and [ErrNotPublished] the caller may change or reuse them. After
// [ErrUnconfirmed] it must not, because the end of ctx does not wait for a write in progress.
package producer
