// Package outbox_test tests package outbox on PostgreSQL, MariaDB and SQLite.
package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	_ "modernc.org/sqlite"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/databases/internal/dbkit"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
)

func TestMain(m *testing.M) { os.Exit(dbkit.Main(m)) }

// A database is an empty database with the tables of an outbox.
type database struct {
	*sql.DB
	*outbox.Outbox
	driver, dsn string
	dialect     string
}

// onEach runs a test on an empty database of each kind.
func onEach(t *testing.T, f func(t *testing.T, db *database)) {
	t.Helper()
	t.Parallel()
	for _, dialect := range []string{"postgresql", "mysql", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			f(t, open(t, outbox.Config{Dialect: dialect}))
		})
	}
}

var names sync.Map

// open returns an empty database with the tables of an outbox.
func open(t *testing.T, cfg outbox.Config) *database {
	t.Helper()
	name := strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.Name()))
	name = name[max(0, len(name)-40):]
	n, _ := names.LoadOrStore(name, new(int))
	*n.(*int)++
	name = fmt.Sprintf("t%s_%d", name, *n.(*int))
	db := &database{dialect: cfg.Dialect}
	var err error
	switch cfg.Dialect {
	case "postgresql":
		db.driver = "pgx"
		db.dsn, err = dbkit.Postgres(t).NewDatabase(t.Context(), name)
	case "mysql":
		db.driver = "mysql"
		db.dsn, err = dbkit.MariaDB(t).NewDatabase(t.Context(), name)
	default:
		db.driver = "sqlite"
		db.dsn = "file:" + t.TempDir() + "/test.db?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate"
	}
	if err != nil {
		t.Fatal(err)
	}
	db.DB = db.connect(t)
	if db.Outbox, err = outbox.New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := db.Create(t.Context(), db.DB); err != nil {
		t.Fatal(err)
	}
	return db
}

// connect returns another pool of connections, like that of another process.
func (db *database) connect(t *testing.T) *sql.DB {
	t.Helper()
	d, err := sql.Open(db.driver, db.dsn)
	if err != nil {
		t.Fatal(err)
	}
	if db.driver == "sqlite" {
		d.SetMaxOpenConns(1)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// A service is a broker with a producer.
type service struct {
	broker *amqptest.Broker
	conn   *amqpkit.Conn
	*producer.Producer
}

// newService declares queues on a broker of the test process.
func newService(t *testing.T, queues ...string) *service {
	t.Helper()
	b := amqptest.Start(t)
	s := &service{broker: b}
	s.conn, s.Producer = connectTo(t, b.URL())
	ac, err := s.conn.PublishConnection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ch, err := ac.Channel()
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	for _, q := range queues {
		if _, err := ch.QueueDeclare(q, true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func connectTo(t *testing.T, url string) (*amqpkit.Conn, *producer.Producer) {
	t.Helper()
	conn, err := amqpkit.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p.Close(ctx)
	})
	return conn, p
}

// start runs a relay until the test ends or stop is called, which returns Run's error.
func start(t *testing.T, o *outbox.Outbox, db *sql.DB, p outbox.Publisher, cfg outbox.RelayConfig) (r *outbox.Relay, stop func() error) {
	t.Helper()
	r, err := outbox.NewRelay(o, db, p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			return errors.New("Run did not return within a minute")
		}
	})
	t.Cleanup(func() { _ = stop() })
	if err := r.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, stop
}

func message(queue, key, body string) outbox.Message {
	return outbox.Message{Key: queue, OrderingKey: key, Publishing: amqp.Publishing{Body: []byte(body)}}
}

// add adds messages in a transaction of their own.
func (db *database) add(t *testing.T, messages ...outbox.Message) {
	t.Helper()
	err := db.Transact(t.Context(), db.DB, func(tx *sql.Tx) error {
		return db.Add(t.Context(), tx, messages...)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a state of the database.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("after 2 minutes still not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// awaitStats waits until the outbox has these numbers of messages.
func (db *database) awaitStats(t *testing.T, waiting, held, setAside int) {
	t.Helper()
	var s outbox.Stats
	deadline := time.Now().Add(2 * time.Minute)
	for {
		var err error
		if s, err = db.Outbox.Stats(t.Context(), db.DB); err != nil {
			t.Fatal(err)
		}
		if s.Waiting == waiting && s.Held == held && s.SetAside == setAside {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Stats = %+v, want %d waiting, %d held, %d set aside", s, waiting, held, setAside)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// bodies returns the bodies in a queue, in order.
func (s *service) bodies(queue string) (list []string) {
	for _, m := range s.broker.Messages(queue) {
		list = append(list, string(m.Body))
	}
	return list
}
