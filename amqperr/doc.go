// Package amqperr defines the errors that several packages of amqpkit return, and marks errors that retrying cannot fix.
//
// A [*FieldError] reports an invalid field of a Config, a message or a topology, with the correction. [Permanent] marks an error of
// a handler, a Setup function or a Declare function as final:
//
//	func handle(ctx context.Context, o Order) error {
//		if o.ID == "" {
//			return amqperr.Permanent(errors.New("order without an id")) // package retry parks the message at once
//		}
//		return ship(ctx, o) // any other error is retried
//	}
//
// [ErrBlocked] reports that the broker does not accept messages at the moment, and [ErrNoConnection] that it cannot be
// reached or refuses the login.
package amqperr
