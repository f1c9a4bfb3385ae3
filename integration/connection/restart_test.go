package connection

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
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/producer"
)

func TestTwentyConsumersAndFiveProducersWorkAgainAfterTwoRestarts(t *testing.T) {
	b := kit.NeedsControl(t)
	const consumers, producers, restarts = 20, 5, 2
	ctx := kit.Within(t, 5*time.Minute)
	conn := kit.Connect(t, amqpkit.Config{})
	queue := kit.QuorumQueue(t, amqp.Table{"x-delivery-limit": -1})
	var work rollCall

	var running sync.WaitGroup
	runCtx, end := context.WithCancel(t.Context())
	t.Cleanup(func() { end(); running.Wait() })
	var cs []*consumer.Consumer
	for i := range consumers {
		c, err := consumer.New(conn, consumer.Config{Queue: queue, Prefetch: 1, Logger: kit.Logger(t)}, work.handler(i))
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
		ps = append(ps, kit.NewProducer(t, conn, producer.Config{}))
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
		var streams []*kit.Stream
		for i, p := range ps {
			streams = append(streams, kit.StartStream(ctx, t, p, queue, fmt.Sprintf("restart %d from %d:", round, i)))
		}
		kit.WaitFor(t, func() bool { return work.handled(fmt.Sprintf("restart %d from 0: 20", round)) })
		if err := b.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		for _, s := range streams {
			confirmed = append(confirmed, s.Stop()...)
		}
		kit.WaitFor(t, func() bool {
			return !slices.ContainsFunc(confirmed, func(body string) bool { return !work.handled(body) })
		})
		allWork(round + 1)
	}
	t.Logf("%d messages confirmed and handled", len(confirmed))
	kit.WaitFor(t, func() bool { return ours() <= goroutines })
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
