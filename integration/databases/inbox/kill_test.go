package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/databases/internal/dbkit"
	"github.com/amqpkit/amqpkit/integration/databases/servers"
)

// onServers runs a test on separate servers. A killed PostgreSQL takes long to restart if it has many databases.
func onServers(t *testing.T, f func(t *testing.T, db *database, server *servers.Server)) {
	t.Helper()
	for dialect, start := range map[string]func(context.Context) (*servers.Server, error){"postgresql": servers.StartPostgres, "mysql": servers.StartMariaDB} {
		t.Run(dialect, func(t *testing.T) {
			server, err := start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := server.Stop(); err != nil {
					t.Error(err)
				}
			})
			dbkit.NeedsControl(t, server)
			f(t, databaseOn(t, dialect, server), server)
		})
	}
}

func TestAKilledDatabaseForgetsTheIdTogetherWithTheEffect(t *testing.T) {
	onServers(t, func(t *testing.T, db *database, server *servers.Server) {
		h := db.handler(t, func(ctx context.Context, tx *sql.Tx, d *consumer.Delivery) error {
			err := db.apply(ctx, tx, d)
			return errors.Join(err, server.Kill())
		})
		if err := h(t.Context(), delivery("a")); err == nil {
			t.Error("acknowledged without a commit")
		}
		if err := db.handler(t, db.apply)(t.Context(), delivery("a")); err == nil {
			t.Error("acknowledged without a database")
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := db.handler(t, db.apply)(t.Context(), delivery("a")); err != nil {
				t.Error(err)
			}
		}
		db.expect(t, "a", 1)
	})
}

// Messages are delivered until they are acknowledged, by handlers and batches, while the database is killed at random times.
func TestKillsOfTheDatabaseNeitherLoseNorRepeatEffects(t *testing.T) {
	onServers(t, func(t *testing.T, db *database, server *servers.Server) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var acknowledged, last atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			h, b := db.handler(t, db.apply), db.batch(t, 5, nil)
			wg.Go(func() {
				for ctx.Err() == nil {
					first := int(last.Add(5)) - 5
					waiting := make([]*consumer.Delivery, 5)
					for i := range waiting {
						waiting[i] = delivery(strconv.Itoa(first + i))
					}
					for len(waiting) > 0 {
						errs := make([]error, len(waiting))
						if len(waiting) == 5 && rand.N(2) == 0 {
							errs = b.handle(context.WithoutCancel(ctx), waiting...)
						} else {
							for i, d := range waiting {
								errs[i] = h(context.WithoutCancel(ctx), d)
							}
						}
						var again []*consumer.Delivery
						for i, d := range waiting {
							if errs[i] != nil {
								again = append(again, d)
							} else {
								acknowledged.Add(1)
							}
						}
						if waiting = again; len(waiting) > 0 {
							time.Sleep(10 * time.Millisecond) // as the consumer, which holds them for a second
						}
					}
				}
			})
		}
		for range 5 {
			for before := acknowledged.Load(); acknowledged.Load() < before+20 && ctx.Err() == nil; {
				time.Sleep(rand.N(5 * time.Millisecond)) // a random point of a transaction
			}
			if err := errors.Join(server.Kill(), server.Restart(ctx)); err != nil {
				t.Error(err)
				break
			}
		}
		cancel()
		wg.Wait()
		n := int(last.Load())
		if total, distinct := db.count(t, "SELECT COUNT(*) FROM effects"), db.count(t, "SELECT COUNT(DISTINCT message) FROM effects"); total != n || distinct != n {
			t.Errorf("%d effects of %d messages, want %d", total, distinct, n)
		}
		t.Logf("%d messages", n)
	})
}
