package main

import (
	"bufio"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/inbox"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// A service has a database with an outbox and an inbox. It consumes one queue.
type service struct {
	name     string
	db       *database
	box      *outbox.Outbox
	topology topology.Topology
	producer producer.Config
	consumer consumer.Config
	handle   func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error
	work     func(ctx context.Context) error // optional, runs next to the consumer
}

// newService opens the database and creates the tables of outbox and inbox in it.
func newService(ctx context.Context, name, variable string) (*service, error) {
	db, err := openDatabase(ctx, variable)
	if err != nil {
		return nil, err
	}
	box, err := outbox.New(outbox.Config{Dialect: db.dialect})
	if err == nil {
		err = errors.Join(box.Create(ctx, db.DB), inbox.Create(ctx, db.DB, inbox.Config{Dialect: db.dialect}))
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &service{name: name, db: db, box: box}, nil
}

// run runs the relay, the consumer and the work of the service until ctx ends or one of them fails. Then it shuts down: it
// ends them and waits for them, closes the producer, and closes the connection. The caller closes the database.
func (s *service) run(ctx context.Context) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})).With("service", s.name)
	conn, err := amqpkit.DialConfig(ctx, amqpkit.Config{
		URLs:   []string{brokerURL()},
		Name:   "data-sync " + s.name,
		Setup:  s.topology.Declare,
		Logger: log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.Background())) }()
	p, err := producer.New(conn, s.producer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(context.Background())) }()

	// The lease of a killed process must expire before another relay publishes. The default of 10 s would slow the demo down.
	relay, err := outbox.NewRelay(s.box, s.db.DB, p, outbox.RelayConfig{Lease: 4 * time.Second})
	if err != nil {
		return err
	}
	in := inbox.Config{Dialect: s.db.dialect, Logger: log}
	handler, err := inbox.Handler(s.db.DB, in, s.handle)
	if err != nil {
		return err
	}
	s.consumer.Middleware = []consumer.Middleware{s.untilItSucceeds(log), s.wake}
	parts := []func(context.Context) error{
		relay.Run,
		func(ctx context.Context) error { return consumer.Run(ctx, conn, s.consumer, handler) },
		func(ctx context.Context) error { return inbox.Run(ctx, s.db.DB, in) }, // removes old ids
	}
	if s.work != nil {
		parts = append(parts, s.work)
	}
	return runAll(ctx, parts...)
}

func brokerURL() string { return cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/") }

// wake makes the relay publish at once after a handler that may have added messages to the outbox.
func (s *service) wake(next consumer.Handler) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		err := next(ctx, d)
		s.box.Wake()
		return err
	}
}

// untilItSucceeds repeats a failed handler, for example while the database is down. If the message was requeued instead, a
// later change of its row would overtake it. A rejected message, which can never succeed, is not repeated.
func (s *service) untilItSucceeds(log *slog.Logger) consumer.Middleware {
	return func(next consumer.Handler) consumer.Handler {
		return func(ctx context.Context, d *consumer.Delivery) error {
			for {
				err := next(ctx, d)
				var rejected *consumer.RejectError
				if err == nil || errors.As(err, &rejected) {
					return err
				}
				log.WarnContext(ctx, "handler failed, will repeat it", "error", err)
				select {
				case <-ctx.Done():
					return err
				case <-time.After(time.Second):
				}
			}
		}
	}
}

// runAll runs functions until ctx ends or one of them fails, then ends and awaits all.
func runAll(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan error, len(parts))
	for _, part := range parts {
		go func() {
			err := part(ctx)
			if err != nil {
				cancel()
			}
			results <- err
		}()
	}
	var errs []error
	for range parts {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// untilInputEnds returns a ctx that ends together with the standard input. The demo stops a service by closing it, and the
// services stop if the demo itself is killed.
func untilInputEnds(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, bufio.NewReader(os.Stdin))
		cancel()
	}()
	return ctx, cancel
}
