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
// To park a message is to move it to a parking queue, which package parking reads.
//
// A [*FileError] is a FieldError with a place in a file, such as a topology in YAML.
//
// [ErrBlocked] reports that the broker does not accept messages at the moment. [ErrNoConnection] reports that the broker cannot be
// reached or refuses the login.
package amqperr
