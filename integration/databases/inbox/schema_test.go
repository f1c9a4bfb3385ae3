package inbox_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/inbox"
)

func TestManyProcessesCreateTheTablesAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		for _, table := range []string{"a", "b", "c"} {
			db.Table = table
			var wg sync.WaitGroup
			start := make(chan struct{})
			for range 10 {
				pool := db.open(t)
				if err := pool.PingContext(t.Context()); err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					<-start
					if err := inbox.Create(t.Context(), pool, db.Config); err != nil {
						t.Error(err)
					}
				})
			}
			close(start)
			wg.Wait()
			if err := db.handler(t, db.apply)(t.Context(), delivery("x")); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAMigrationToolCreatesTheTablesFromTheSchema(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		db.Table = "migrated"
		schema, err := inbox.Schema(db.Config)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for statement := range strings.SplitSeq(strings.TrimSpace(schema), ";") {
				if statement != "" {
					db.exec(t, statement)
				}
			}
		}
		if err := inbox.Create(t.Context(), db.DB, db.Config); err != nil {
			t.Error(err)
		}
		if err := db.handler(t, db.apply)(t.Context(), delivery("x")); err != nil {
			t.Error(err)
		}
	})
}

func TestCreateNeedsNoPermissionIfTheTablesExist(t *testing.T) {
	db := newDatabase(t, "postgresql")
	readOnly := *db
	readOnly.dsn += "&default_transaction_read_only=on"
	pool := readOnly.open(t)
	if err := inbox.Create(t.Context(), pool, db.Config); err != nil {
		t.Error(err)
	}
	db.Table = "other"
	if err := inbox.Create(t.Context(), pool, db.Config); err == nil {
		t.Error("created in a read-only transaction")
	}
}

func TestTablesOfAnotherVersionAreRefused(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		for version, fix := range map[int]string{0: "changelog", 2: "update this program"} {
			db.exec(t, "UPDATE amqpkit_inbox_meta SET value = ? WHERE name = 'version'", version)
			err := inbox.Create(t.Context(), db.DB, db.Config)
			var other *inbox.SchemaError
			if !errors.As(err, &other) || other.Version != version || other.Expected != 1 || !strings.Contains(err.Error(), fix) || !amqperr.IsPermanent(err) {
				t.Errorf("version %d: %v", version, err)
			}
		}
	})
}

func TestCreateCompletesAnInterruptedCreate(t *testing.T) {
	onEach(t, func(t *testing.T, db *database) {
		for _, step := range []string{"DELETE FROM amqpkit_inbox_meta", "DROP TABLE amqpkit_inbox_meta", "DROP TABLE amqpkit_inbox"} {
			db.exec(t, step)
			if err := inbox.Create(t.Context(), db.DB, db.Config); err != nil {
				t.Errorf("after %s: %v", step, err)
			}
			if err := db.handler(t, db.apply)(t.Context(), delivery(step)); err != nil {
				t.Errorf("after %s: %v", step, err)
			}
		}
	})
}
