package outbox

import (
	"errors"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/sqldb"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// Config describes the tables of an outbox. Dialect is required. All processes that use the tables need the same Config.
type Config struct {
	// Dialect is the database: "postgresql" (12 and later), "sqlite" (3.42 and later), or "mysql" for MariaDB (10.6 and
	// later) and MySQL (8.0 and later).
	Dialect string

	// Table is the name of the table of messages, with or without a schema: "app.outbox". The names of the other tables
	// begin with it. Empty means "amqpkit_outbox".
	Table string

	// LockKeys makes Add lock the ordering keys of its messages until the transaction ends, so that transactions that add
	// messages with the same key follow each other, and the order of Add is the order of their commits. Leave it off if the
	// transactions lock a row of the entity anyway, by an UPDATE or SELECT ... FOR UPDATE before Add. On SQLite it has no
	// effect, because writing transactions follow each other there. A transaction that calls Add several times may
	// deadlock with another one; the database then fails one of them.
	LockKeys bool

	// MaxMessageSize is the maximum size of a body, in bytes. Add refuses a larger one. Zero means 16 MiB, RabbitMQ's default
	// max_message_size. Set the same value for the Producer.
	MaxMessageSize int
}

// An Outbox stores messages in a table of a database. Create one with [New]. Its methods may be called from any goroutine.
type Outbox struct {
	cfg     Config
	table   sqldb.Table
	dialect dialect
	wake    signal
}

// New returns an Outbox. It does not use a database. Its error joins a *[amqperr.FieldError] for each invalid field.
func New(cfg Config) (*Outbox, error) {
	var errs []error
	if cfg.Table == "" {
		cfg.Table = "amqpkit_outbox"
	}
	if cfg.MaxMessageSize == 0 {
		cfg.MaxMessageSize = validate.MaxBody
	}
	if cfg.MaxMessageSize < 0 {
		errs = append(errs, fault("MaxMessageSize", "is negative", "use zero for 16 MiB"))
	}
	name := sqldb.Dialect(cfg.Dialect)
	if p := name.Check(); p != nil {
		errs = append(errs, fault("Dialect", p.Problem, p.Fix))
	}
	table, p := name.Table(cfg.Table)
	if p != nil {
		errs = append(errs, fault("Table", p.Problem, p.Fix))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Outbox{cfg: cfg, table: table, dialect: newDialect(name, table)}, nil
}

func fault(field, problem, fix string) error {
	return &amqperr.FieldError{Package: "outbox", Field: field, Problem: problem, Fix: fix}
}
