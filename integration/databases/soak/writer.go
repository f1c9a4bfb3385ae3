package soak

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/outbox"
)

// A change is a change of a row: a record in both databases, and the body of a message.
type change struct {
	Item    int64  `json:"item"`
	Version int64  `json:"version"`
	Name    string `json:"name"` // unique, also among transactions that were rolled back; the new value of the row
	Kind    string `json:"kind"` // inserted, updated or deleted
}

const (
	inserted = "insert"
	updated  = "update"
	deleted  = "delete"
)

const (
	writing       = 3                      // goroutines of a writer; one with SQLite
	writePause    = 40 * time.Millisecond  // mean time between two transactions of a goroutine
	writeTimeout  = 10 * time.Second       // for a transaction
	slowTime      = 400 * time.Millisecond // longest time between Add and commit in slow transactions
	slowTimeFile  = 50 * time.Millisecond  // the same with SQLite, where a transaction excludes all others
	failurePause  = 100 * time.Millisecond
	rolledBackOf  = 8  // one in so many transactions is rolled back
	slowOf        = 20 // one in so many transactions is slow
	separateOf    = 3  // one in so many transactions calls Add for each message
	mostInOne     = 4  // changes in a transaction
	deletedOf     = 5  // one in so many changes of an existing row deletes it
	itemHeader    = "item"
	stopTime      = 30 * time.Second
	connectionsOf = 8 // connections to the database for each process
)

// errOnPurpose rolls a transaction back.
var errOnPurpose = errors.New("rolled back on purpose")

// write changes rows until ctx ends.
func (w *worker) write(ctx context.Context) error {
	db, err := w.Database.open(connectionsOf)
	if err != nil {
		return err
	}
	defer db.Close()
	box, err := w.Database.newOutbox()
	if err != nil {
		return err
	}
	w.report(ready)
	n := writing
	if w.Database.Kind == SQLite {
		n = 1
	}
	var goroutines sync.WaitGroup
	for i := range n {
		x := &writer{worker: w, db: db, box: box, rng: rand.New(rand.NewPCG(w.Seed, uint64(i)))} //nolint:gosec // load, not secrets
		goroutines.Go(func() { x.run(ctx) })
	}
	goroutines.Wait()
	return nil
}

// A writer is a goroutine that changes rows.
type writer struct {
	*worker
	db  *sql.DB
	box *outbox.Outbox
	rng *rand.Rand
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := os.Stat(w.Hold); err == nil {
			pause(ctx, failurePause)
			continue
		}
		n, err := w.change(ctx)
		switch {
		case err == nil:
			for range n {
				w.report(committed)
			}
		case errors.Is(err, errOnPurpose):
			w.report(rolledBack)
		case ctx.Err() == nil:
			w.report(failed)
			w.logger.Info("soak: transaction failed", "error", err)
			pause(ctx, failurePause)
		}
		pause(ctx, rand.N(2*writePause))
	}
}

func (w *writer) oneOf(n int) bool { return w.rng.IntN(n) == 0 }

// change changes some rows in one transaction.
func (w *writer) change(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	items := w.rng.Perm(w.Items)[:1+w.rng.IntN(mostInOne)]
	slices.Sort(items) // so that transactions do not deadlock
	rollBack, slow, separate := w.oneOf(rolledBackOf), w.oneOf(slowOf), w.oneOf(separateOf)
	return len(items), w.box.Transact(ctx, w.db, func(tx *sql.Tx) error {
		messages := make([]outbox.Message, len(items))
		for i, item := range items {
			c, err := w.changeItem(ctx, tx, int64(item))
			if err != nil {
				return err
			}
			if messages[i], err = w.message(c); err != nil {
				return err
			}
			if separate {
				if err := w.box.Add(ctx, tx, messages[i]); err != nil {
					return err
				}
			}
		}
		if !separate {
			if err := w.box.Add(ctx, tx, messages...); err != nil {
				return err
			}
		}
		if slow && w.Database.Kind == SQLite {
			pause(ctx, rand.N(slowTimeFile))
		} else if slow {
			pause(ctx, rand.N(slowTime))
		}
		if rollBack {
			return errOnPurpose
		}
		return nil
	})
}

// changeItem changes a row and records the change. The first statement locks the row.
func (w *writer) changeItem(ctx context.Context, tx *sql.Tx, item int64) (c change, err error) {
	exec := func(query string, args ...any) {
		if err == nil {
			_, err = tx.ExecContext(ctx, w.Database.bind(query), args...)
		}
	}
	c = change{Item: item, Name: fmt.Sprintf("%s-%x", w.Name, rand.Uint64())}
	live := 0
	exec("UPDATE versions SET version = version + 1 WHERE item = ?", item)
	if err == nil {
		err = tx.QueryRowContext(ctx, w.Database.bind("SELECT version, live FROM versions WHERE item = ?"), item).Scan(&c.Version, &live)
	}
	switch {
	case live == 0:
		c.Kind = inserted
		exec("INSERT INTO items (id, version, name) VALUES (?, ?, ?)", item, c.Version, c.Name)
		exec("UPDATE versions SET live = 1 WHERE item = ?", item)
	case w.oneOf(deletedOf):
		c.Kind = deleted
		exec("DELETE FROM items WHERE id = ?", item)
		exec("UPDATE versions SET live = 0 WHERE item = ?", item)
	default:
		c.Kind = updated
		exec("UPDATE items SET version = ?, name = ? WHERE id = ?", c.Version, c.Name, item)
	}
	exec("INSERT INTO changes (item, version, name, kind) VALUES (?, ?, ?, ?)", c.Item, c.Version, c.Name, c.Kind)
	return c, err
}

// message returns the message that announces a change. All messages of an item go to the same queue.
func (w *writer) message(c change) (outbox.Message, error) {
	body, err := json.Marshal(c)
	return outbox.Message{
		Exchange:    w.Exchange,
		Key:         w.Queues[int(c.Item)%len(w.Queues)],
		OrderingKey: fmt.Sprintf("item %d", c.Item),
		Publishing:  amqp.Publishing{ContentType: "application/json", Headers: amqp.Table{itemHeader: c.Item}, Body: body},
	}, err
}
