package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
)

// A blocking publisher gives no outcome to messages whose body begins with x until their ctx ends, while on is set.
type blocking struct {
	*producer.Producer
	on                atomic.Bool
	blocked, released chan struct{}
}

func (b *blocking) PublishAsync(ctx context.Context, exchange, key string, m amqp.Publishing) (*producer.Receipt, error) {
	if !b.on.Load() || !strings.HasPrefix(string(m.Body), "x") {
		return b.Producer.PublishAsync(ctx, exchange, key, m)
	}
	b.blocked <- struct{}{}
	<-ctx.Done()
	b.released <- struct{}{}
	return nil, fmt.Errorf("%w: %w", producer.ErrNotPublished, context.Cause(ctx))
}

// A relay reads a message whose key is held. Its leases expire, and another relay publishes the held messages and releases
// the key. The message must not be held after that, because no query for held messages would find it.
func TestARelayWithoutLeasesHoldsNoMessage(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		s := newService(t, "orders")
		p := &blocking{Producer: s.Producer, blocked: make(chan struct{}, 100), released: make(chan struct{}, 100)}
		start(t, db.Outbox, db.DB, p, outbox.RelayConfig{Lease: time.Second, PollInterval: 10 * time.Millisecond})
		db.add(t, message("missing", "k", "k1"))
		db.awaitStats(t, 1, 1, 0)

		p.on.Store(true)
		messages := []outbox.Message{message("orders", "k", "k2")}
		for i := range 16 { // for both goroutines of the relay
			messages = append(messages, message("orders", fmt.Sprint("x", i), fmt.Sprint("x", i)))
		}
		db.add(t, messages...)
		<-p.blocked
		<-p.blocked
		// The effects of another relay.
		_, err1 := db.Exec("DELETE FROM amqpkit_outbox WHERE shard < 0")
		_, err2 := db.Exec("DELETE FROM amqpkit_outbox_keys")
		_, err3 := db.Exec("ALTER TABLE amqpkit_outbox_leases RENAME TO amqpkit_outbox_unavailable")
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		p.on.Store(false)
		<-p.released
		<-p.released
		if _, err := db.Exec("ALTER TABLE amqpkit_outbox_unavailable RENAME TO amqpkit_outbox_leases"); err != nil {
			t.Fatal(err)
		}
		db.awaitStats(t, 0, 0, 0)
		if got := s.bodies("orders"); !slices.Contains(got, "k2") {
			t.Errorf("orders contains %q, want k2", got)
		}
	})
}
