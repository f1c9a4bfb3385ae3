package inbox

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/internal/sqldb"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// Config configures an inbox. Dialect is required.
type Config struct {
	// Dialect is the kind of database: "postgresql", "sqlite" or "mysql", which includes MariaDB.
	Dialect string

	// Table is the name of the table of ids, optionally with a schema, which must exist: "name" or "schema.name", each of
	// ASCII letters, digits and underscores, at most 48 bytes. A second table has the same name with the suffix _meta.
	// Empty means "amqpkit_inbox". Several consumers and services may share a table.
	Table string

	// Consumer is the name under which ids are stored. Two consumers with different names each get a message once; after a
	// change of the name, earlier messages take effect again. Empty means the queue of the delivery. Set it if a server
	// generates the name of the queue, and if a service moves to another queue. At most 255 bytes of UTF-8.
	Consumer string

	// ID returns the id of a message. Two messages with the same id are the same message. Nil means the message id, which
	// the producer of amqpkit sets, but not every other client: pika sets none. Other choices are a header or a key in the
	// body. If publishers choose ids independently, combine the id with the name of the publisher. An id may contain any
	// bytes. One of more than 255 bytes is stored as its SHA-256 hash. A message with an empty id is rejected.
	ID func(d *consumer.Delivery) string

	// Retention is the minimum time for which an id is stored, by the clock of the database. A duplicate that arrives later
	// takes effect again, so Retention must exceed the time for which a message may wait in queues, retries and parking
	// queues. A change applies to ids stored from then on. Rounded up to seconds. Zero means 7 days.
	Retention time.Duration

	// Logger receives duplicates at debug level, failed batches, and the results of Run. Nil means slog.Default().
	Logger *slog.Logger
}

const maxID = 255 // bytes, as in AMQP 0-9-1

// An inbox is a valid Config with its database.
type inbox struct {
	Config
	db    *sql.DB
	table sqldb.Table
	sql   statements
	warn  logs.Limiter
}

// open returns the inbox for a Config. argument is the name of another invalid argument of the caller, if there is one.
func open(db *sql.DB, c Config, arguments ...error) (*inbox, error) {
	errs := arguments
	check := func(field string, p *validate.Problem) {
		if p != nil {
			errs = append(errs, fault(field, p.Problem, p.Fix))
		}
	}
	dialect := sqldb.Dialect(c.Dialect)
	check("Dialect", dialect.Check())
	table, problem := dialect.Table(cmp.Or(c.Table, "amqpkit_inbox"))
	check("Table", problem)
	check("Consumer", validate.Name(c.Consumer))
	if c.Retention < 0 {
		errs = append(errs, fault("Retention", fmt.Sprintf("%v is negative", c.Retention), "use a positive duration, or zero for 7 days"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.Retention = cmp.Or(c.Retention, 7*24*time.Hour)
	c.Logger = logs.For(c.Logger, nil)
	return &inbox{Config: c, db: db, table: table, sql: newStatements(dialect, table, c.Retention)}, nil
}

func fault(field, problem, fix string) error {
	return &amqperr.FieldError{Package: "inbox", Field: field, Problem: problem, Fix: fix}
}

// missing returns the error for an argument that is nil.
func missing(isNil bool, argument string) error {
	if !isNil {
		return nil
	}
	return fault(argument, "is nil", "")
}
