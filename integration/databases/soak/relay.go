package soak

import (
	"context"
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
)

const pollInterval = 50 * time.Millisecond // writers are other processes and cannot wake relays

// relay publishes the messages of the outbox until ctx ends.
func (w *worker) relay(ctx context.Context) (err error) {
	db, err := w.Database.open(connectionsOf)
	if err != nil {
		return err
	}
	defer db.Close()
	box, err := w.Database.newOutbox()
	if err != nil {
		return err
	}
	p, disconnect, err := w.connectProducer()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disconnect()) }()
	r, err := outbox.NewRelay(box, db, traced{w, p}, outbox.RelayConfig{
		Lease: w.Lease, PollInterval: pollInterval, DrainTimeout: stopTime / 3, MaxAttempts: -1, Logger: w.logger,
	})
	if err != nil {
		return err
	}
	go func() {
		if r.Ready(ctx) == nil {
			w.report(ready)
		}
	}()
	err = r.Run(ctx)
	var unfinished *outbox.DrainError
	if errors.As(err, &unfinished) { // allowed: another relay publishes these messages again
		w.logger.Info("soak: relay stopped", "error", err)
		return nil
	}
	return err
}

// A traced publisher writes a line for each message into the log.
type traced struct {
	w *worker
	*producer.Producer
}

func (t traced) PublishAsync(ctx context.Context, exchange, key string, m amqp.Publishing) (*producer.Receipt, error) {
	receipt, err := t.Producer.PublishAsync(ctx, exchange, key, m)
	t.w.trace("publishing", m.Body, "error", err)
	return receipt, err
}
