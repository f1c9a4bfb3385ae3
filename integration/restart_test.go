package integration

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/producer"
)

func TestHelloReceiverMissesNothingThroughABrokerRestart(t *testing.T) {
	b := needsControl(t)
	examples := buildExamples(t, "hello/send", "hello/receive")
	forget(t, "hello")
	receive := examples.start(t, "hello/receive")
	receive.expect(waiting)
	seen := make(map[string]bool)
	readUntil := func(what string, done func() bool) {
		t.Helper()
		for !done() {
			line := receive.next()
			var body string
			if _, err := fmt.Sscanf(line, " [x] Received %q", &body); err != nil {
				t.Fatalf("while waiting for %s it printed %q: %v", what, line, err)
			}
			seen[body] = true
		}
	}

	examples.start(t, "hello/send", "first").expectAll(` [x] Sent "first"`)
	readUntil("the first message", func() bool { return seen["first"] })

	// One sender goes on and on; more messages are handed over while the broker is down.
	ctx := within(t, 3*time.Minute)
	p := newProducer(t, connect(t, amqpkit.Config{}), producer.Config{})
	stream := startStream(ctx, t, p, "hello", "stream")
	readUntil("the stream", func() bool { return seen["stream 20"] })
	if err := b.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	var during []*producer.Receipt
	for i := range 20 {
		r, err := p.PublishAsync(ctx, "", "hello", amqp.Publishing{Body: fmt.Append(nil, "during ", i)})
		if err != nil {
			t.Fatal(err)
		}
		during = append(during, r)
	}
	if err := b.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for i, r := range during {
		if err := r.Wait(ctx); err != nil {
			t.Fatalf("during %d: %v", i, err)
		}
	}
	examples.start(t, "hello/send", "last").expectAll(` [x] Sent "last"`)
	confirmed := slices.Concat(stream.stop(), []string{"first", "last"})
	for i := range during {
		confirmed = append(confirmed, fmt.Sprint("during ", i))
	}

	readUntil("all that was confirmed", func() bool {
		return !slices.ContainsFunc(confirmed, func(body string) bool { return !seen[body] })
	})
	t.Logf("%d messages confirmed and received", len(confirmed))
	receive.signal() // the same process as before the restart
	receive.exits(0)
	expectSettled(t, "hello")
}

func TestTwentyConsumersAndFiveProducersWorkAgainAfterTwoRestarts(t *testing.T) {
	b := needsControl(t)
	const consumers, producers, restarts = 20, 5, 2
	ctx := within(t, 5*time.Minute)
	conn := connect(t, amqpkit.Config{})
	queue := quorumQueue(t, amqp.Table{"x-delivery-limit": -1})
	var work rollCall

	var running sync.WaitGroup
	runCtx, end := context.WithCancel(t.Context())
	t.Cleanup(func() { end(); running.Wait() })
	var cs []*consumer.Consumer
	for i := range consumers {
		c, err := consumer.New(conn, consumer.Config{Queue: queue, Prefetch: 1, Logger: logger(t)}, work.handler(i))
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := c.Run(runCtx); err != nil {
				t.Errorf("Run = %v", err)
			}
		})
		cs = append(cs, c)
	}
	var ps []*producer.Producer
	for range producers {
		ps = append(ps, newProducer(t, conn, producer.Config{}))
	}

	// All work: each producer publishes, and each consumer has to take part before anyone may finish.
	allWork := func(round int) {
		t.Helper()
		for i, c := range cs {
			if err := c.Ready(ctx); err != nil {
				t.Fatalf("consumer %d: %v", i, err)
			}
		}
		call := fmt.Sprintf("call %d", round)
		present := work.call(consumers, call)
		var publishing sync.WaitGroup
		for i, p := range ps {
			publishing.Go(func() {
				for n := range consumers / producers {
					body := fmt.Sprintf("%s from %d: %d", call, i, n)
					if err := p.Publish(ctx, "", queue, amqp.Publishing{Body: []byte(body)}); err != nil {
						t.Errorf("producer %d: %v", i, err)
					}
				}
			})
		}
		publishing.Wait()
		select {
		case <-present:
		case <-ctx.Done():
			t.Fatalf("round %d: %d of %d consumers got no message", round, work.absent(), consumers)
		}
		err := b.AwaitQueue(ctx, queue, func(c rabbit.Counts) bool { return c == rabbit.Counts{Consumers: consumers} })
		if err != nil {
			t.Fatalf("round %d: %v, want nothing left and %d consumers", round, err, consumers)
		}
		if n := named(t, t.Name()); n != 2 {
			t.Errorf("round %d: %d connections on the broker, want 2", round, n)
		}
	}

	allWork(0)
	goroutines := ours()
	var confirmed []string
	for round := range restarts {
		var streams []*stream
		for i, p := range ps {
			streams = append(streams, startStream(ctx, t, p, queue, fmt.Sprintf("restart %d from %d:", round, i)))
		}
		waitFor(t, func() bool { return work.handled(fmt.Sprintf("restart %d from 0: 20", round)) })
		if err := b.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		for _, s := range streams {
			confirmed = append(confirmed, s.stop()...)
		}
		waitFor(t, func() bool {
			return !slices.ContainsFunc(confirmed, func(body string) bool { return !work.handled(body) })
		})
		allWork(round + 1)
	}
	t.Logf("%d messages confirmed and handled", len(confirmed))
	waitFor(t, func() bool { return ours() <= goroutines })
}

// A stream publishes one message after the other until it is stopped, and after that one more.
type stream struct {
	halt      chan struct{}
	ended     chan struct{}
	confirmed []string
}

// startStream starts one whose bodies are the prefix and a number. Whatever happens to the broker, each
// message is to be confirmed before ctx ends.
func startStream(ctx context.Context, t *testing.T, p *producer.Producer, queue, prefix string) *stream {
	t.Helper()
	s := &stream{halt: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		for n, last := 0, false; !last; n++ {
			select {
			case <-s.halt:
				last = true
			case <-ctx.Done():
				return
			default:
			}
			body := fmt.Sprint(prefix, " ", n)
			if err := p.Publish(ctx, "", queue, amqp.Publishing{Body: []byte(body)}); err != nil {
				t.Errorf("publish %q: %v", body, err)
				return
			}
			s.confirmed = append(s.confirmed, body)
		}
	}()
	t.Cleanup(func() { <-s.ended }) // ctx is the test's: it has ended by then
	return s
}

// stop publishes one message more and returns all bodies.
func (s *stream) stop() []string {
	close(s.halt)
	<-s.ended
	return s.confirmed
}

// A rollCall is the work of many consumers: it remembers what was handled. The messages of a call keep their
// consumers busy until every consumer has one.
type rollCall struct {
	mu      sync.Mutex
	bodies  map[string]bool
	prefix  string       // of the bodies of the call
	missing map[int]bool // consumers without a message of the call
	present chan struct{}
}

// call begins a call of n consumers, for messages whose bodies begin with prefix. The channel is closed when
// all are present.
func (r *rollCall) call(n int, prefix string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prefix, r.missing, r.present = prefix, make(map[int]bool), make(chan struct{})
	for i := range n {
		r.missing[i] = true
	}
	return r.present
}

func (r *rollCall) absent() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.missing)
}

func (r *rollCall) handled(body string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bodies[body]
}

// handler is the work of consumer i.
func (r *rollCall) handler(i int) consumer.Handler {
	return func(ctx context.Context, d *consumer.Delivery) error {
		called, present := r.arrive(i, string(d.Body))
		if !called {
			return nil
		}
		select {
		case <-present:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *rollCall) arrive(i int, body string) (called bool, present <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bodies == nil {
		r.bodies = make(map[string]bool)
	}
	r.bodies[body] = true
	if r.prefix == "" || !strings.HasPrefix(body, r.prefix) {
		return false, nil
	}
	if r.missing[i] {
		delete(r.missing, i)
		if len(r.missing) == 0 {
			close(r.present)
		}
	}
	return true, r.present
}

// ours counts the goroutines that amqpkit or amqp091-go started or are in. Those of the harness come and go.
func ours() int {
	buf := make([]byte, 16<<20)
	n := 0
	for g := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		for _, name := range []string{"rabbitmq/amqp091-go.", "amqpkit/amqpkit.", "amqpkit/producer.", "amqpkit/consumer."} {
			if bytes.Contains(g, []byte(name)) {
				n++
				break
			}
		}
	}
	return n
}
