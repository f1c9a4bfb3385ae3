package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/retry"
)

// A worker consumes from a queue with a sequence of Runs, each with its own name.
type worker struct {
	w      *workload
	name   string
	client string
	cfg    consumer.Config
	steady bool        // the handler always succeeds
	plan   *retry.Plan // plan for retries; nil if failures are not retried
	delay  time.Duration

	mu  sync.Mutex
	rng *rand.Rand

	stop    context.CancelFunc
	stopped chan struct{}
}

// runStopTime is the time in which a Run must return once its ctx is done. A Run waits up to DrainTimeout for handlers
// and up to 5 s for the broker's last answers.
const runStopTime = max(drainTime, 5*time.Second) + 500*time.Millisecond

var (
	errOnPurpose = errors.New("failed on purpose")
	errHopeless  = errors.New("failed on purpose, with a retry rule")
)

// makeWorkers creates the workers. consume starts them.
func (w *workload) makeWorkers() {
	for _, client := range []string{alice, bob} {
		for i := range workQueues {
			w.newWorker(client, w.q.work(i), consumer.Config{Workers: 4, Prefetch: 24, HasDeadLetterExchange: true})
		}
		w.newWorker(client, w.q.name(toRetry), consumer.Config{Workers: 4, Prefetch: 16, HasDeadLetterExchange: true}).plan = w.q.plan
	}
	w.newWorker(carol, w.q.name(toOrder), consumer.Config{Prefetch: 1}).steady = true
	w.newWorker(carol, w.q.name("dead"), consumer.Config{Prefetch: 8}).steady = true
	w.newWorker(carol, w.q.plan.ParkingQueue(), consumer.Config{Prefetch: 8}).steady = true
	full := w.newWorker(carol, w.q.name(toFull), consumer.Config{Prefetch: 1})
	full.steady, full.delay = true, 50*time.Millisecond // slower than the publisher
	w.newWorker(carol, w.q.name(toSide), consumer.Config{Prefetch: 8, Declare: w.q.declareSide}).steady = true
}

// consume starts the workers.
func (w *workload) consume() {
	for _, x := range w.workers {
		ctx, stop := context.WithCancel(context.Background())
		x.stop, x.stopped = stop, make(chan struct{})
		go x.loop(ctx)
	}
}

func (w *workload) newWorker(client, queue string, cfg consumer.Config) *worker {
	cfg.Queue, cfg.DrainTimeout, cfg.Logger = queue, drainTime, w.logger
	if cfg.Workers == 0 {
		cfg.Workers = 1
	}
	name := client + "-" + queue
	seed := sha256.Sum256([]byte(fmt.Sprintf("%d %s", w.seed, name)))
	x := &worker{w: w, name: name, client: client, cfg: cfg, rng: rand.New(rand.NewChaCha8(seed))}
	w.workers = append(w.workers, x)
	return x
}

// consumers returns the consumers for the Settings record.
func (w *workload) consumers() map[string]Consumer {
	all := map[string]Consumer{}
	for _, x := range w.workers {
		all[x.name] = Consumer{Queue: x.cfg.Queue, Prefetch: x.cfg.Prefetch, Dead: x.plan != nil || x.cfg.Queue == w.q.name("dead")}
	}
	return all
}

// stopWorkers stops the workers and waits for them. A worker that does not stop is recorded as a Run that exceeded its
// deadline.
func (w *workload) stopWorkers() {
	began := w.h.Now()
	for _, x := range w.workers {
		x.stop()
	}
	late := time.After(runStopTime + callGrace)
	for _, x := range w.workers {
		select {
		case <-x.stopped:
		case <-late:
			w.h.Put(Record{Call: &Call{What: ConsumerRun, Who: x.name, Began: began, Deadline: began + int64(runStopTime), Err: "did not return"}})
			return
		}
	}
}

// loop consumes until ctx ends. It stops each Run after some time and starts the next one, like deployments of a
// program.
func (x *worker) loop(ctx context.Context) {
	defer close(x.stopped)
	for n := 1; ctx.Err() == nil; n++ {
		x.run(ctx, fmt.Sprintf("%s-%d", x.name, n))
	}
}

func (x *worker) run(ctx context.Context, name string) {
	cfg := x.cfg
	cfg.TagPrefix = name
	handler := x.handle
	if x.plan != nil {
		cfg.Middleware = []consumer.Middleware{x.recordMoves, x.plan.Middleware(mover{x.w.movers[x.client]})}
		handler = x.try
	}
	c, err := consumer.New(x.w.conns[x.client], cfg, handler)
	if err != nil {
		x.w.logger.Error("soak: consumer not created", "error", err)
		<-ctx.Done()
		return
	}
	running, stop := context.WithCancel(context.Background())
	defer stop()
	call := &Call{What: ConsumerRun, Who: name}
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		select {
		case <-time.After(8*time.Second + x.upTo(12*time.Second)):
		case <-ctx.Done():
		case <-running.Done(): // Run returned without being stopped
		}
		x.w.h.Put(Record{Stop: &Stop{Run: name}}) // before stop, because it justifies the requeues that follow
		call.Began = x.w.h.Now()
		call.Deadline = call.Began + int64(runStopTime)
		stop()
	}()
	if err := c.Run(running); err != nil {
		call.Err = err.Error()
	}
	call.Unasked = running.Err() == nil
	stop()
	<-recorded
	x.w.h.Put(Record{Call: call})
}

// draw returns a random number from 0 to n-1. Handlers call it concurrently.
func (x *worker) draw(n int64) int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.rng.Int64N(n)
}

func (x *worker) upTo(d time.Duration) time.Duration { return time.Duration(x.draw(int64(d))) }

// handle is the handler of queues without retries. It takes some time, mostly succeeds, and records its result.
func (x *worker) handle(ctx context.Context, d *consumer.Delivery) error {
	h := x.newHandled(d)
	var took time.Duration
	h.Result, took = x.decide(d)
	select {
	case <-time.After(took):
	case <-ctx.Done(): // DrainTimeout has elapsed
		h.Result = Fail
		x.w.h.Put(Record{Handled: h})
		return ctx.Err()
	}
	x.w.h.Put(Record{Handled: h})
	switch h.Result {
	case Reject:
		return consumer.Reject(errOnPurpose)
	case Requeue:
		return consumer.Requeue(x.upTo(100 * time.Millisecond))
	case Fail:
		if h.Tag%2 == 0 {
			panic(errOnPurpose)
		}
		return errOnPurpose
	}
	return nil
}

// newHandled returns the record of a delivery, without its result.
func (x *worker) newHandled(d *consumer.Delivery) *Handled {
	h := &Handled{
		ID: idOf(d.Body), Began: x.w.h.Now(), Consumer: d.ConsumerTag, Tag: d.DeliveryTag, Redelivered: d.Redelivered,
		MessageID: d.MessageId, Sum: sum(d.Body),
	}
	attempts, _ := d.Headers[history.HeaderAttempts].(int64)
	h.Attempts = int(attempts)
	h.Why, _ = d.Headers[history.HeaderReason].(string)
	return h
}

// idOf returns the message ID at the start of a body.
func idOf(body []byte) string { return string(body[:max(0, bytes.IndexByte(body, '\n'))]) }

// decide returns the result and the duration of a handler call. A message fails at most twice: the delay before another
// redelivery could be longer than the rest of a short run.
func (x *worker) decide(d *consumer.Delivery) (result string, took time.Duration) {
	took = x.delay
	if x.steady || x.w.failing.Err() != nil {
		return OK, took
	}
	failures, _ := d.Headers["x-delivery-count"].(int64)
	switch n := x.draw(1000); {
	case n < 5 && failures < 2:
		result = Fail
	case n < 15:
		result = Requeue
	case n < 20:
		result = Reject
	default:
		result = OK
	}
	if x.draw(100) < 2 {
		took += 20*time.Millisecond + x.upTo(280*time.Millisecond)
	}
	return result, took
}
