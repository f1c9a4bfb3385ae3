package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
)

// Batch returns a consumer.Handler that collects up to size deliveries, as consumer.Batch does, and handles them in one
// transaction of db. It stores all ids with one statement and calls f with the deliveries that are not duplicates, in
// their order. All deliveries are acknowledged after the commit.
//
// If the transaction fails, because of f or the database, it is rolled back, and each delivery is handled in a separate
// transaction: f is called again with one delivery at a time, and its result settles that delivery only. So a message
// that cannot be handled does not fail the others. See Handler for the results and for the rules that f must follow.
//
// consumer.Config.Workers and Prefetch should be twice size, see consumer.Batch. Do not share the Handler between
// consumers. The error joins a *amqperr.FieldError for each invalid field and argument. size and wait must be positive.
func Batch(db *sql.DB, cfg Config, size int, wait time.Duration, f func(ctx context.Context, tx *sql.Tx, ds []*consumer.Delivery) error) (consumer.Handler, error) {
	var limits error
	if size < 1 || wait <= 0 {
		limits = fault("size, wait", fmt.Sprintf("are %d and %v", size, wait), "both must be positive")
	}
	x, err := open(db, cfg, missing(db == nil, "db"), missing(f == nil, "f"), limits)
	if err != nil {
		return nil, err
	}
	return consumer.Batch(size, wait, func(ctx context.Context, ds []*consumer.Delivery) []error {
		return x.batch(ctx, ds, f)
	}), nil
}

// batch returns an outcome for each delivery.
func (x *inbox) batch(ctx context.Context, ds []*consumer.Delivery, f func(context.Context, *sql.Tx, []*consumer.Delivery) error) []error {
	errs := make([]error, len(ds))
	var messages []message
	for i, d := range ds {
		errs[i] = recovered(func() error {
			k, err := x.key(d)
			if err == nil {
				messages = append(messages, message{d, k, &errs[i]})
			}
			return err
		})
	}
	if len(messages) == 0 {
		return errs
	}
	err := recovered(func() error { return x.handle(ctx, messages, f) })
	separately := err != nil && len(messages) > 1 && !isUnavailable(err)
	if separately {
		x.warn.Warn(ctx, x.Logger, "batch", "inbox: a batch failed, handling its messages one by one",
			slog.String("queue", ds[0].Queue), slog.Int("messages", len(messages)), slog.Any("error", err))
	}
	for _, m := range messages {
		if separately && !isUnavailable(err) {
			err = recovered(func() error { return x.handle(ctx, []message{m}, f) })
		}
		*m.result = err
	}
	return errs
}

// recovered returns a panic of f as an error.
func recovered(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &consumer.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
