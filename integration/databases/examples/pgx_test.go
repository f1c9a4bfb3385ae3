package examples

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/databases/internal/dbkit"
	"github.com/amqpkit/amqpkit/integration/databases/servers"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// A pgxTx is a transaction of pgx to which an Outbox can add messages.
type pgxTx struct{ pgx.Tx }

func (tx pgxTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tag, err := tx.Exec(ctx, query, args...)
	return driver.RowsAffected(tag.RowsAffected()), err
}

// listen wakes the relays of box when a transaction that notified has committed. It returns when ctx ends.
func listen(ctx context.Context, dsn string, box *outbox.Outbox) {
	for ctx.Err() == nil {
		if err := listenOnce(ctx, dsn, box); ctx.Err() == nil {
			slog.WarnContext(ctx, "listening for messages", "error", err) // meanwhile, relays poll
			time.Sleep(time.Second)
		}
	}
}

func listenOnce(ctx context.Context, dsn string, box *outbox.Outbox) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN outbox"); err != nil {
		return err
	}
	for {
		box.Wake() // also after connecting: notifications may have been missed
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

// addPgx adds messages in a transaction of pgx.
func addPgx(ctx context.Context, conn pgxBeginner, box *outbox.Outbox, id int64, m outbox.Message) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE orders SET status = 'paid' WHERE id = $1", id); err != nil {
			return err
		}
		if err := box.Add(ctx, pgxTx{tx}, m); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "NOTIFY outbox") // PostgreSQL delivers it after the commit
		return err
	})
}

type pgxBeginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// A pgxService is a database on a server with one paid order, and a queue.
type pgxService struct {
	dsn   string
	db    *sql.DB
	box   *outbox.Outbox
	conn  *pgx.Conn
	queue string
}

func newPgxService(t *testing.T, server *servers.Server) *pgxService {
	t.Helper()
	dsn, err := server.NewDatabase(t.Context(), "pgx")
	kit.Must(t, err)
	s := &pgxService{dsn: dsn, queue: kit.QuorumQueue(t, nil)}
	s.db, err = sql.Open("pgx", dsn)
	kit.Must(t, err)
	t.Cleanup(func() { s.db.Close() })
	_, err = s.db.ExecContext(t.Context(), "CREATE TABLE orders (id INT PRIMARY KEY, status TEXT); INSERT INTO orders VALUES (1, 'new')")
	kit.Must(t, err)
	s.box, err = outbox.New(outbox.Config{Dialect: "postgresql", LockKeys: true})
	kit.Must(t, err)
	kit.Must(t, s.box.Create(t.Context(), s.db))
	s.conn, err = pgx.Connect(t.Context(), dsn)
	kit.Must(t, err)
	t.Cleanup(func() { s.conn.Close(context.Background()) })
	return s
}

// relay runs a relay of its own Outbox, as in another process, until the test ends.
func (s *pgxService) relay(t *testing.T, cfg outbox.RelayConfig) *outbox.Outbox {
	t.Helper()
	box, err := outbox.New(outbox.Config{Dialect: "postgresql", LockKeys: true})
	kit.Must(t, err)
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{Setup: topology.Topology{}.Declare}), producer.Config{})
	r, err := outbox.NewRelay(box, s.db, p, cfg)
	kit.Must(t, err)
	run(t, func(ctx context.Context) error { return r.Run(ctx) })
	kit.Must(t, r.Ready(kit.Within(t, time.Minute)))
	return box
}

// run runs a function until the test ends.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		kit.Must(t, <-done)
	})
}

// receive returns a function that returns the next message of the queue.
func (s *pgxService) receive(t *testing.T) (next func() amqp.Delivery) {
	t.Helper()
	deliveries, err := kit.RawChannel(t).Consume(s.queue, "", true, false, false, false, nil)
	kit.Must(t, err)
	return func() amqp.Delivery {
		t.Helper()
		select {
		case d := <-deliveries:
			return d
		case <-time.After(time.Minute):
			t.Fatal("no message arrived within a minute")
			return amqp.Delivery{}
		}
	}
}

func (s *pgxService) message(body string) outbox.Message {
	return outbox.Message{Key: s.queue, OrderingKey: "order 1", Publishing: amqp.Publishing{Body: []byte(body)}}
}

func TestAddWorksInATransactionOfPgx(t *testing.T) {
	s := newPgxService(t, dbkit.Postgres(t))
	tx, err := s.conn.Begin(t.Context())
	kit.Must(t, err)
	kit.Must(t, s.box.Add(t.Context(), pgxTx{tx}, s.message("phantom")))
	kit.Must(t, tx.Rollback(t.Context()))
	kit.Must(t, addPgx(t.Context(), s.conn, s.box, 1, s.message("paid")))
	s.relay(t, outbox.RelayConfig{})
	if d := s.receive(t)(); string(d.Body) != "paid" || d.MessageId == "" {
		t.Errorf("received %q with the id %q, want only the committed message with an id", d.Body, d.MessageId)
	}
}

func TestANotificationWakesTheRelayOfAnotherProcess(t *testing.T) {
	s := newPgxService(t, dbkit.Postgres(t))
	const poll = 30 * time.Second
	box := s.relay(t, outbox.RelayConfig{PollInterval: poll})
	listening := make(chan struct{})
	run(t, func(ctx context.Context) error {
		close(listening)
		listen(ctx, s.dsn, box)
		return nil
	})
	<-listening
	kit.WaitFor(t, func() bool { // until LISTEN has been executed
		var n int
		err := s.db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN outbox' AND datname = current_database()").Scan(&n)
		return err == nil && n == 1
	})
	next := s.receive(t)
	for range 3 {
		began := time.Now()
		kit.Must(t, addPgx(t.Context(), s.conn, s.box, 1, s.message("paid")))
		next()
		took := time.Since(began)
		t.Logf("from the transaction to the consumer: %v", took)
		if took > poll/10 {
			t.Errorf("the message arrived after %v, with a PollInterval of %v", took, poll)
		}
	}
}

// The session does not survive a transaction there: no LISTEN, no session locks, no prepared statements.
func TestAddInATransactionOfPgxWorksBehindPgBouncer(t *testing.T) {
	pool, err := servers.StartPgBouncer(t.Context(), dbkit.Postgres(t))
	kit.Must(t, err)
	t.Cleanup(func() { kit.Must(t, pool.Stop()) })
	s := newPgxService(t, pool)
	s.relay(t, outbox.RelayConfig{})
	next := s.receive(t)
	for range 3 {
		kit.Must(t, addPgx(t.Context(), s.conn, s.box, 1, s.message("paid")))
		next()
	}
}
