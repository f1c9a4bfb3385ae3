package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/logs"
	"github.com/amqpkit/amqpkit/producer"
)

// A Publisher publishes the messages of an outbox. *producer.Producer is one. Leave its NoResend unset. With
// AllowUnroutable, a message that no queue has stored counts as published; use it only for events that may have no
// subscriber.
type Publisher interface {
	PublishAsync(ctx context.Context, exchange, key string, msg amqp.Publishing) (*producer.Receipt, error)
}

// RelayConfig configures a Relay. The zero value is ready to use.
type RelayConfig struct {
	// MaxAttempts is the number of failed attempts after which a message is set aside: it was returned because no queue
	// is bound for it, nacked by the broker, or refused, for example because its exchange does not exist. Attempts with
	// an unknown outcome and attempts without a connection do not count. The pauses between attempts grow from 1 s to
	// 30 s. A message that can never be published is set aside at once. Zero means 20, which take about eight minutes;
	// a negative value means no limit.
	MaxAttempts int

	// StopKeys makes the other messages with the ordering key of a message that was set aside wait until it is replayed
	// or dropped. Without it they are published without that message, also those that waited while it was set. All relays
	// should have the same value.
	StopKeys bool

	// PollInterval is the longest time between two queries for new messages, with a jitter of 20 %. It is the delay of
	// messages that are not announced by [Outbox.Wake]. Zero means 200 ms.
	PollInterval time.Duration

	// Lease is the time for which a relay claims ordering keys. It renews its claim long before. If its process dies,
	// other relays take over after that time. See [Relay] for a process that was suspended. Zero means 10 s; at least 1 s.
	Lease time.Duration

	// BatchSize is the maximum number of messages in memory for each of the two goroutines that publish, and of as many
	// messages of keys that are held. Zero means 1000.
	BatchSize int

	// BatchBytes is the maximum size of their bodies, in bytes, likewise. It is exceeded by up to one message for each shard.
	// Zero means 32 MiB.
	BatchBytes int

	// DrainTimeout is the time that messages get for their outcome after the end of Run's ctx. Zero means 30 s.
	DrainTimeout time.Duration

	// Logger receives failures of messages and of the database. Repeated warnings are logged once a minute. Nil means the
	// Logger of the Publisher if it has one, otherwise slog.Default.
	Logger *slog.Logger
}

func (c RelayConfig) withDefaults(p Publisher) RelayConfig {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&c.PollInterval, 200*time.Millisecond)
	set(&c.Lease, 10*time.Second)
	set(&c.DrainTimeout, 30*time.Second)
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 20
	}
	if c.BatchSize == 0 {
		c.BatchSize = 1000
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = 32 << 20
	}
	c.Logger = logs.For(c.Logger, p)
	return c
}

func (c RelayConfig) validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{{"PollInterval", c.PollInterval, time.Millisecond}, {"Lease", c.Lease, time.Second}, {"DrainTimeout", c.DrainTimeout, 0}} {
		if f.value < f.least {
			errs = append(errs, fault(f.name, fmt.Sprintf("%s is less than %s", f.value, f.least), "use zero for the default"))
		}
	}
	if c.BatchSize < 0 || c.BatchSize > 10_000 {
		errs = append(errs, fault("BatchSize", fmt.Sprintf("%d is not between 1 and 10,000", c.BatchSize), "use zero for 1000"))
	}
	if c.BatchBytes < 0 {
		errs = append(errs, fault("BatchBytes", "is negative", "use zero for 32 MiB"))
	}
	return errors.Join(errs...)
}

// A Relay publishes the messages of an Outbox and deletes each after its confirm. Any number of relays in any number of
// processes may run for the same tables: they divide the ordering keys among themselves and take over the keys of a
// relay whose process has died.
//
// A message is published at least once. It is published again, with the same message id, if its outcome is unknown or
// if the relay ends between its confirm and its deletion.
//
// A relay that was suspended for longer than its lease, for example with its virtual machine, sends nothing when it
// resumes, except messages that it had already passed to the Publisher: at most BatchSize for each of its two
// goroutines, and one for each ordering key. They may arrive once more, and behind later messages with the same key.
type Relay struct {
	outbox    *Outbox
	db        *sql.DB
	publisher Publisher
	cfg       RelayConfig
	leases    leases
	warnings  logs.Limiter
	counts    counts

	mu      sync.Mutex
	running bool
	err     error         // the last failure; nil while the relay works
	working chan struct{} // closed while err is nil
}

type counts struct {
	relayed, failures, setAside atomic.Uint64
	delays, longest             atomic.Int64
}

// ErrNotRunning reports that Run has not been called or has returned.
var ErrNotRunning = errors.New("outbox: relay not running")

// NewRelay returns a Relay that publishes the messages of o in db through p. It uses neither yet. Its error joins a
// *[amqperr.FieldError] for each invalid field.
func NewRelay(o *Outbox, db *sql.DB, p Publisher, cfg RelayConfig) (*Relay, error) {
	cfg = cfg.withDefaults(p)
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Relay{outbox: o, db: db, publisher: p, cfg: cfg, err: ErrNotRunning, working: make(chan struct{})}, nil
}

// Run publishes messages until ctx ends. It waits through failures of the database and of the broker, and logs their
// cause. Then it waits up to RelayConfig.DrainTimeout for the outcomes of published messages, deletes the confirmed ones
// and passes its ordering keys to other relays.
//
// It returns nil if no outcome is missing, and a *[DrainError] otherwise: these messages stay in the table and are
// published again. It returns a *[SchemaError] if the tables do not exist, and an error that wraps producer.ErrClosed if
// the Producer was closed. A second Run while one is running returns an error.
//
// To shut a program down, end Run first, then close the producer, then the connection.
func (r *Relay) Run(ctx context.Context) error {
	if err := r.begin(); err != nil {
		return err
	}
	err := r.run(ctx)
	r.end(err)
	return err
}

func (r *Relay) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running {
		return errors.New("outbox: relay already running")
	}
	r.running, r.err = true, fmt.Errorf("%w: it starts", ErrNotRunning)
	return nil
}

func (r *Relay) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	r.setErr(ErrNotRunning)
	if err != nil {
		r.setErr(fmt.Errorf("%w: %w", ErrNotRunning, err))
	}
}

// report sets the state that Err returns.
func (r *Relay) report(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setErr(err)
}

func (r *Relay) setErr(err error) {
	if err == nil && r.err != nil {
		close(r.working)
	} else if err != nil && r.err == nil {
		r.working = make(chan struct{})
	}
	r.err = err
}

// Err returns nil while messages can be published, otherwise the reason: ErrNotRunning, the last failure of the database,
// or the error of the Publisher if it has a method Err, as *producer.Producer has. It does not block.
func (r *Relay) Err() error {
	r.mu.Lock()
	err := r.err
	r.mu.Unlock()
	if p, ok := r.publisher.(interface{ Err() error }); ok && err == nil {
		return p.Err()
	}
	return err
}

// Ready waits until Run works: the tables exist and can be read. If ctx ends first, the error wraps its cause and the
// reason. A relay is also ready if other relays hold all ordering keys.
func (r *Relay) Ready(ctx context.Context) error {
	r.mu.Lock()
	working := r.working
	r.mu.Unlock()
	select {
	case <-working:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("outbox: relay not ready: %w: %w", context.Cause(ctx), r.Err())
	}
}

// RelayStats are counts since the Relay was created.
type RelayStats struct {
	Relayed  uint64 // messages that were confirmed
	Failures uint64 // failed attempts that counted
	SetAside uint64 // messages that were set aside

	// TotalDelay is the sum of the times from Add to the confirm of all relayed messages, LongestDelay the longest one.
	TotalDelay, LongestDelay time.Duration
}

// Stats returns the counts of this Relay. It does not use the database; [Outbox.Stats] does.
func (r *Relay) Stats() RelayStats {
	return RelayStats{
		Relayed: r.counts.relayed.Load(), Failures: r.counts.failures.Load(), SetAside: r.counts.setAside.Load(),
		TotalDelay: time.Duration(r.counts.delays.Load()), LongestDelay: time.Duration(r.counts.longest.Load()),
	}
}

// A DrainError reports messages that stay in the table at the end of Run although they may have been published.
type DrainError struct {
	Unfinished int // messages without an outcome, or confirmed but not deleted
}

func (e *DrainError) Error() string {
	return fmt.Sprintf("outbox: relay ended before %d published messages were confirmed and deleted; they will be published again", e.Unfinished)
}

var errDrained = errors.New("outbox: the drain timeout elapsed")

// workers is the number of goroutines that publish: while one deletes, the other one publishes.
const workers = 2

func (r *Relay) run(ctx context.Context) error {
	var retry pause
	for { // until the database answers
		err := r.checkSchema(ctx)
		var missing *SchemaError
		if err == nil {
			break
		} else if errors.As(err, &missing) {
			return err
		}
		r.failed(ctx, "outbox: database", err)
		if !retry.wait(ctx) {
			return nil
		}
	}
	r.cfg.Logger.InfoContext(ctx, "outbox: relay started")

	// Messages in flight outlive ctx by the drain timeout, and the leases outlive them.
	drained, drain := context.WithCancelCause(context.WithoutCancel(ctx))
	defer drain(nil)
	timer := time.AfterFunc(math.MaxInt64, func() { drain(errDrained) })
	defer timer.Stop()
	held, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	fatal := make(chan error, workers)
	stopping, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(stopping, func() { timer.Reset(r.cfg.DrainTimeout) })()
	var keeping, working sync.WaitGroup
	r.leases.begin(drained)
	defer r.leases.stop()
	keeping.Go(func() { r.keepLeases(held, stopping) })
	var unfinished atomic.Int64
	for i := range workers {
		w := &worker{r: r, index: i}
		working.Go(func() {
			if err := w.run(stopping); err != nil {
				fatal <- err
				stop()
			}
			unfinished.Add(int64(w.unfinished))
		})
	}
	working.Wait()
	release()
	keeping.Wait()
	stats := r.Stats()
	r.cfg.Logger.InfoContext(ctx, "outbox: relay stopped", "published", stats.Relayed, "failures", stats.Failures, "set_aside", stats.SetAside)
	select {
	case err := <-fatal:
		return err
	default:
	}
	if n := int(unfinished.Load()); n > 0 {
		return &DrainError{Unfinished: n}
	}
	return nil
}

func (r *Relay) checkSchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Lease)
	defer cancel()
	return r.outbox.checkSchema(ctx, r.db)
}

// failed logs a failure and makes it the state of the relay.
func (r *Relay) failed(ctx context.Context, kind string, err error) {
	if ctx.Err() != nil {
		return
	}
	r.report(err)
	r.warnings.Warn(ctx, r.cfg.Logger, kind, kind, slog.Any("error", err))
}
