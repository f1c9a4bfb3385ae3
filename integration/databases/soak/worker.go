package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/producer"
)

// workerVar is the environment variable that makes a program a worker process. It holds a spec.
const workerVar = "AMQPKIT_SOAK_WORKER"

// Roles of worker processes.
const (
	writers   = "writer"
	relays    = "relay"
	consumers = "consumer"
)

// A spec is the task of a worker process.
type spec struct {
	Role, Name string
	Seed       uint64
	Database   database // A for writers and relays, B for consumers
	URL        string   // of the broker
	Exchange   string
	Queues     []string
	Items      int
	Hold       string // writers wait while this file exists
	Lease      time.Duration
}

// Events that a worker process reports to the runner, one for each line of its standard output. A killed process may
// have done something without reporting it, so the judge does not use them.
const (
	started    = "started" // SIGTERM stops the process in order from now on
	ready      = "ready"
	committed  = "committed"   // a change
	rolledBack = "rolled back" // a transaction, on purpose
	failed     = "failed"      // a transaction, because of a fault
	applied    = "applied"     // a change
	removed    = "removed"     // a duplicate that the inbox recognised
)

// IsWorker reports whether this process was started as a worker by Run. Its main function must then call Work.
func IsWorker() bool { return os.Getenv(workerVar) != "" }

// Work runs a worker process until SIGTERM, or until its standard input ends because the process of Run has died. It
// returns the exit status.
func Work() int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	w := &worker{out: os.Stdout, logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	w.report(started)
	err := json.Unmarshal([]byte(os.Getenv(workerVar)), &w.spec)
	if err == nil {
		err = map[string]func(context.Context) error{writers: w.write, relays: w.relay, consumers: w.consume}[w.Role](ctx)
	}
	if err != nil {
		w.logger.Error("soak: worker", "error", err)
		return 1
	}
	return 0
}

// A worker is a worker process.
type worker struct {
	spec
	logger *slog.Logger

	mu  sync.Mutex
	out io.Writer
}

func (w *worker) report(event string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintln(w.out, event)
}

// trace writes a line about a message into the log, by which the causes of findings can be found.
func (w *worker) trace(what string, body []byte, args ...any) {
	w.logger.Info(what, append([]any{"change", string(body)}, args...)...)
}

// connect returns a connection that is closed by the returned function.
func (w *worker) connect() (*amqpkit.Conn, func() error, error) {
	conn, err := amqpkit.Open(amqpkit.Config{URLs: []string{w.URL}, Name: w.Name, Logger: w.logger})
	if err != nil {
		return nil, nil, err
	}
	return conn, func() error { return closeWithin(conn.Close) }, nil
}

// connectProducer returns a producer that is closed by the returned function.
func (w *worker) connectProducer() (*producer.Producer, func() error, error) {
	conn, disconnect, err := w.connect()
	if err != nil {
		return nil, nil, err
	}
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return nil, nil, errors.Join(err, disconnect())
	}
	return p, func() error { return errors.Join(closeWithin(p.Close), disconnect()) }, nil
}

func closeWithin(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return f(ctx)
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
