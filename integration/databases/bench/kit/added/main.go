// Command added adds messages to an outbox while a Relay in the same process publishes them. With -how=one it adds a message,
// waits for its confirm and for a random time of up to 20 ms, and measures the latency from the commit. With -how=rate it adds
// -goroutines × 500 messages per second for the duration -for, each in one transaction, and measures the latency from Add.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/bench/side"
	"github.com/amqpkit/amqpkit/integration/databases/bench"
	"github.com/amqpkit/amqpkit/outbox"
	"github.com/amqpkit/amqpkit/producer"
)

func main() { side.Main(run) }

func run(ctx context.Context, t side.Task) (side.Result, error) {
	db, err := bench.Open(ctx, t)
	if err != nil {
		return side.Result{}, err
	}
	defer db.Close()
	conn, err := amqpkit.Dial(ctx, t.URL)
	if err != nil {
		return side.Result{}, err
	}
	defer conn.Close(ctx)
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return side.Result{}, err
	}
	defer p.Close(ctx)
	o, err := db.Outbox()
	if err != nil {
		return side.Result{}, err
	}
	a := &adder{task: t, db: db, outbox: o, confirmed: map[string]chan time.Time{}}
	r, err := outbox.NewRelay(o, db.DB, publisher{p, a}, outbox.RelayConfig{})
	if err != nil {
		return side.Result{}, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(running) }()
	if err := r.Ready(ctx); err != nil {
		return side.Result{}, err
	}
	for range 20 { // until the Relay has all shards, and caches are warm
		if _, err := a.one(ctx); err != nil {
			return side.Result{}, err
		}
	}
	clock := side.StartWith(t)
	var times []time.Duration
	if t.How == "one" {
		times, err = a.oneByOne(ctx)
	} else {
		times, err = a.atRate(ctx)
	}
	if err != nil {
		return side.Result{}, err
	}
	result := clock.Stop(len(times)).WithLatencies(times)
	stop()
	return result, <-ended
}

// An adder adds messages and measures their latencies.
type adder struct {
	task   side.Task
	db     *bench.Database
	outbox *outbox.Outbox

	mu        sync.Mutex
	confirmed map[string]chan time.Time // by message id
}

// A publisher tells an adder the times of the confirms.
type publisher struct {
	*producer.Producer
	adder *adder
}

func (p publisher) PublishAsync(ctx context.Context, exchange, key string, msg amqp.Publishing) (*producer.Receipt, error) {
	receipt, err := p.Producer.PublishAsync(ctx, exchange, key, msg)
	if err != nil {
		return nil, err
	}
	go func() {
		<-receipt.Done()
		now := time.Now()
		p.adder.mu.Lock()
		c := p.adder.confirmed[msg.MessageId]
		delete(p.adder.confirmed, msg.MessageId)
		p.adder.mu.Unlock()
		if c != nil {
			c <- now
		}
	}()
	return receipt, nil
}

// add adds a message in one transaction and returns the times of Add and of the commit, and a channel for the time of the
// confirm.
func (a *adder) add(ctx context.Context) (added, committed time.Time, confirmed chan time.Time, err error) {
	id := side.MessageID(rand.Int())
	confirmed = make(chan time.Time, 1)
	a.mu.Lock()
	a.confirmed[id] = confirmed
	a.mu.Unlock()
	err = a.outbox.Transact(ctx, a.db.DB, func(tx *sql.Tx) error {
		added = time.Now()
		return a.outbox.Add(ctx, tx, outbox.Message{
			Key: a.task.QueueNames()[0], OrderingKey: fmt.Sprintf("order %d", rand.N(a.task.Keys)),
			Publishing: amqp.Publishing{MessageId: id, Body: make([]byte, a.task.Size)},
		})
	})
	return added, time.Now(), confirmed, err
}

// one adds a message and returns the time from its commit to its confirm.
func (a *adder) one(ctx context.Context) (time.Duration, error) {
	_, committed, confirmed, err := a.add(ctx)
	if err != nil {
		return 0, err
	}
	select {
	case at := <-confirmed:
		return at.Sub(committed), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (a *adder) oneByOne(ctx context.Context) ([]time.Duration, error) {
	times := make([]time.Duration, a.task.Messages)
	for i := range times {
		time.Sleep(rand.N(20 * time.Millisecond)) // the system is idle
		var err error
		if times[i], err = a.one(ctx); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// addRate is the number of messages that all goroutines add per second.
const addRate = 2000

func (a *adder) atRate(ctx context.Context) ([]time.Duration, error) {
	type message struct {
		added     time.Time
		confirmed chan time.Time
	}
	n := int(a.task.For.Seconds()*addRate) / a.task.Goroutines // of each goroutine
	messages := make([]message, n*a.task.Goroutines)
	errs := make([]error, a.task.Goroutines)
	var adding sync.WaitGroup
	for g := range a.task.Goroutines {
		adding.Go(func() {
			began := time.Now()
			for i := range n {
				time.Sleep(time.Until(began.Add(time.Duration(i*a.task.Goroutines+g) * (time.Second / addRate))))
				m := &messages[g*n+i]
				if m.added, _, m.confirmed, errs[g] = a.add(ctx); errs[g] != nil {
					return
				}
			}
		})
	}
	adding.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	times := make([]time.Duration, len(messages))
	for i, m := range messages {
		select {
		case at := <-m.confirmed:
			times[i] = at.Sub(m.added)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return times, nil
}
