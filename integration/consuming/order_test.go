package consuming

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// An order is what handlers of one queue see: the messages of each key, numbered from 0, each once and one at a time.
type order struct {
	t    *testing.T
	want int           // messages of all keys
	done chan struct{} // closed with the last of them

	mu      sync.Mutex
	next    map[string]int
	running map[string]bool
	seen    int
	counted int // deliveries that the broker has counted as failed
}

func newOrder(t *testing.T, want int) *order {
	t.Helper()
	return &order{t: t, want: want, done: make(chan struct{}), next: map[string]int{}, running: map[string]bool{}}
}

// keyOf is the key of a message: its body is "key/number".
func keyOf(d *consumer.Delivery) string {
	key, _, _ := strings.Cut(string(d.Body), "/")
	return key
}

func (o *order) begin(d *consumer.Delivery) {
	key, number, _ := strings.Cut(string(d.Body), "/")
	n, err := strconv.Atoi(number)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch next := o.next[key]; {
	case err != nil:
		o.t.Errorf("message %q: %v", d.Body, err)
	case o.running[key]:
		o.t.Errorf("%s begins while another one of its key is handled", d.Body)
	case n < next:
		o.t.Errorf("%s is handled again", d.Body)
	case n > next:
		o.t.Errorf("%s is handled when %d is next", d.Body, next)
	}
	o.running[key], o.next[key] = true, n+1
	if d.Headers["x-delivery-count"] != nil {
		o.counted++
	}
}

func (o *order) end(d *consumer.Delivery) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running[keyOf(d)] = false
	if o.seen++; o.seen == o.want {
		close(o.done)
	}
}

func (o *order) handled() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

// keyed returns n bodies of 8 keys in turn.
func keyed(n int) []string {
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = fmt.Sprintf("k%d/%d", i%8, i/8)
	}
	return bodies
}

func TestS96AGracefulHandoverKeepsTheOrder(t *testing.T) {
	single := amqp.Table{"x-single-active-consumer": true}
	const queues, n = 4, 500
	type scenario struct {
		kind    string
		live    bool          // messages are published meanwhile
		each    time.Duration // a handler's
		cfg     consumer.Config
		args    amqp.Table
		counted int // limit of messages with x-delivery-count
	}
	key := consumer.Config{Workers: 8, Key: keyOf}
	tight := consumer.Config{Workers: 8, Key: keyOf, Prefetch: 64, DrainTimeout: 200 * time.Millisecond}
	for name, s := range map[string]scenario{
		"the prefetch is full":                   {kind: "quorum", each: 5 * time.Millisecond, cfg: key, args: single},
		"with a live publisher, not full":        {kind: "quorum", live: true, each: time.Millisecond, cfg: key, args: single, counted: queues * 32},
		"no time for the received ones":          {kind: "quorum", each: 30 * time.Millisecond, cfg: tight, args: single, counted: queues * 64},
		"classic, the prefetch is full":          {kind: "classic", each: 5 * time.Millisecond, cfg: key, args: single},
		"classic, with a live publisher":         {kind: "classic", live: true, each: 5 * time.Millisecond, cfg: key, args: single},
		"classic, no time for the received ones": {kind: "classic", each: 30 * time.Millisecond, cfg: tight, args: single},
		"one worker without a key":               {kind: "quorum", each: time.Millisecond, cfg: consumer.Config{SingleActiveConsumer: true}, args: single},
		"an exclusive consumer":                  {kind: "classic", each: time.Millisecond, cfg: consumer.Config{Exclusive: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := kit.NewConsumerBench(t), kit.NewConsumerBench(t)
			n := n
			if s.each > 10*time.Millisecond {
				n = 400
			}
			var names []string
			var orders []*order
			var ending, starting []*kit.Running
			for range queues {
				queue := first.Name()
				first.Declare(queue, s.kind, s.args)
				names, orders = append(names, queue), append(orders, newOrder(t, n))
				if !s.live {
					first.Publish(queue, keyed(n)...)
				}
			}
			var successors atomic.Int64
			for i, o := range orders {
				handler := func(_ context.Context, d *consumer.Delivery) error {
					o.begin(d)
					kit.Work(s.each)
					o.end(d)
					return nil
				}
				cfg := s.cfg
				cfg.Queue = names[i]
				ending = append(ending, first.Start(cfg, handler))
				starting = append(starting, second.Begin(cfg, func(ctx context.Context, d *consumer.Delivery) error {
					successors.Add(1)
					return handler(ctx, d)
				}))
			}
			published := make(chan struct{})
			go func() {
				defer close(published)
				for i, body := range keyed(n) {
					if !s.live {
						return
					}
					for _, queue := range names {
						if err := first.Plain.Publish("", queue, true, false, amqp.Publishing{Body: []byte(body)}); err != nil {
							t.Error(err)
						}
					}
					if i%10 == 0 {
						kit.Work(4 * time.Millisecond)
					}
				}
			}()
			kit.WaitFor(t, func() bool {
				return !slices.ContainsFunc(orders, func(o *order) bool { return o.handled() < n/10 })
			})
			for _, r := range ending {
				r.End()
			}
			for _, r := range ending {
				if err := kit.Receive(t, r.Done, "Run's return"); err != nil {
					t.Errorf("Run = %v", err)
				}
			}
			counted := 0
			for _, o := range orders {
				kit.Receive(t, afterClose(o.done), "last message")
				counted += o.counted
			}
			if left := successors.Load(); left < queues*100 {
				t.Errorf("only %d messages were left for the successors", left)
			}
			kit.Receive(t, afterClose(published), "end of the publisher")
			for _, r := range starting {
				r.StopClean()
			}
			t.Logf("%d of %d messages were counted", counted, queues*n)
			if counted > s.counted {
				t.Errorf("%d messages were counted as failed, want %d at most", counted, s.counted)
			}
			for _, queue := range names {
				first.ExpectLeft(queue, 0)
			}
		})
	}
}

// afterClose is c for receive, which takes a closed channel for a mistake.
func afterClose(c <-chan struct{}) <-chan bool {
	closed := make(chan bool, 1)
	go func() { <-c; closed <- true }()
	return closed
}

// Rejected, postponed and failed messages lie between acknowledged ones: the one acknowledgement for all must not cover them,
// and they must not come back to the consumer that ends.
func TestS96AHandoverSettlesEachDeliveryByItsResult(t *testing.T) {
	for _, full := range []bool{true, false} {
		t.Run(fmt.Sprintf("prefetch full %v", full), func(t *testing.T) {
			b := kit.NewConsumerBench(t)
			dead := b.Queue(nil)
			queue := b.Queue(amqp.Table{"x-single-active-consumer": true, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
			prefetch, postponed := 100, "requeue"
			if full { // and it is cancelled first, unless a message is put back at the shutdown
				prefetch, postponed = 7, "ack"
			}
			b.Publish(queue, "ack", "reject", postponed, "fail", "now", "ack", "held")
			begun, release := make(chan struct{}, 7), make(chan struct{})
			r := b.Start(consumer.Config{Queue: queue, Workers: 7, Prefetch: prefetch, SingleActiveConsumer: true, HasDeadLetterExchange: true},
				func(_ context.Context, d *consumer.Delivery) error {
					begun <- struct{}{}
					if string(d.Body) == "held" {
						return consumer.Requeue(time.Hour)
					}
					<-release
					switch string(d.Body) {
					case "reject":
						return consumer.Reject(nil)
					case "requeue":
						return consumer.Requeue(time.Hour)
					case "fail":
						return errors.New("database down")
					case "now":
						return consumer.RejectRequeue(nil)
					}
					return nil
				})
			for range 7 {
				kit.Receive(t, begun, "delivery")
			}
			r.End()
			close(release)
			if err := kit.Receive(t, r.Done, "Run's return"); err != nil {
				t.Errorf("Run = %v", err)
			}
			if len(begun) > 0 {
				t.Errorf("%d deliveries came to the consumer again", len(begun))
			}
			if d := b.Take(dead); string(d.Body) != "reject" {
				t.Errorf("dead-lettered %s", d.Body)
			}
			want := []string{"fail", "held", "now"}
			if !full {
				want = append(want, "requeue")
			}
			b.ExpectLeft(queue, len(want))
			b.ExpectLeft(dead, 0)
			var left []string
			for _, d := range kit.Take(t, queue, len(want)) {
				left = append(left, string(d.Body))
			}
			if slices.Sort(left); !slices.Equal(left, want) {
				t.Errorf("the queue kept %q, want %q", left, want)
			}
		})
	}
}

// A handover is no failure of the message: the next failure is the first, and held as such.
func TestS96AHandoverIsNoAttempt(t *testing.T) {
	b := kit.NewConsumerBench(t)
	queue := b.Queue(amqp.Table{"x-single-active-consumer": true})
	b.Publish(queue, "running", "waits")
	begun, release := make(chan struct{}), make(chan struct{})
	r := b.Start(consumer.Config{Queue: queue, SingleActiveConsumer: true, DrainTimeout: 300 * time.Millisecond}, func(context.Context, *consumer.Delivery) error {
		begun <- struct{}{}
		<-release
		return nil
	})
	kit.Receive(t, begun, "delivery")
	r.End()
	var unfinished *consumer.DrainError
	if err := kit.Receive(t, r.Done, "Run's return"); !errors.As(err, &unfinished) {
		t.Errorf("Run = %v, want a *DrainError", err)
	}
	close(release)
	var log kit.Logbook
	failed := make(chan *consumer.Delivery, 10)
	r = b.Start(consumer.Config{Queue: queue, SingleActiveConsumer: true, Workers: 2, Logger: log.Logger()}, func(_ context.Context, d *consumer.Delivery) error {
		failed <- d
		return errors.New("database down")
	})
	for range 2 {
		if d := kit.Receive(t, failed, "delivery"); d.Headers["x-delivery-count"] != int64(1) {
			t.Errorf("%s: x-delivery-count %v, want 1", d.Body, d.Headers["x-delivery-count"])
		}
	}
	kit.WaitFor(t, func() bool { return log.Count("handler failed") == 2 })
	if n := log.Count("attempt=1 delay=1s"); n != 2 {
		t.Errorf("%d of 2 failures are taken for the first\n%s", n, &log)
	}
	r.StopClean()
}

// SIGINT of a real process: it reports each start and end of a handler with its time.
func TestS96SIGINTHandsOverInOrder(t *testing.T) {
	if queue := os.Getenv(childQueue); queue != "" {
		consumeUntilInterrupted(t, queue)
		return
	}
	const n = 800
	b := kit.NewConsumerBench(t)
	queue := b.Queue(amqp.Table{"x-single-active-consumer": true})
	b.Publish(queue, keyed(n)...)
	child := exec.CommandContext(b.Ctx(), os.Args[0], "-test.run=^TestS96SIGINT")
	child.Env = append(os.Environ(), childQueue+"="+queue, "AMQP_URL="+b.Broker.URL())
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	last := map[string]int{}      // number of the last message of a key
	ended := map[string]int64{}   // and when its handler ended
	var first map[string]int64    // when the successor's first handler of a key began
	var mu sync.Mutex             // guards what the successor's handlers write
	o := newOrder(t, n)           // the successor's, once the child's part is known
	var mine []*consumer.Delivery // in the order of their starts
	first = map[string]int64{}
	all := make(chan struct{}, n)
	var successor *kit.Running
	for handled := 0; lines.Scan(); {
		var key string
		var number int
		var began, end int64
		if _, err := fmt.Sscanf(lines.Text(), "handled %s %d %d %d", &key, &number, &began, &end); err != nil {
			continue
		}
		if next, known := last[key]; known && number != next+1 || !known && number != 0 {
			t.Errorf("the first process handled %s/%d after %d", key, number, next)
		}
		last[key], ended[key] = number, end
		if handled++; handled == 1 {
			successor = b.Begin(consumer.Config{Queue: queue, Workers: 8, Key: keyOf}, func(_ context.Context, d *consumer.Delivery) error {
				mu.Lock()
				if mine = append(mine, d); first[keyOf(d)] == 0 {
					first[keyOf(d)] = time.Now().UnixNano()
				}
				mu.Unlock()
				all <- struct{}{}
				return nil
			})
		}
		if handled == 200 {
			if err := child.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err != nil {
		t.Errorf("the first process ended with %v", err)
	}
	theirs := 0
	for key, number := range last {
		o.next[key] = number + 1
		theirs += number + 1
	}
	for range n - theirs {
		kit.Receive(t, all, "message")
	}
	successor.StopClean()
	for _, d := range mine {
		o.begin(d)
		o.end(d)
	}
	for key, began := range first {
		if began < ended[key] {
			t.Errorf("%s: the successor began %v before the end of the last handler", key, time.Duration(ended[key]-began))
		}
	}
	t.Logf("%d messages by the first process, %d by the second, %d counted", theirs, len(mine), o.counted)
	b.ExpectLeft(queue, 0)
}

func consumeUntilInterrupted(t *testing.T, queue string) {
	t.Helper()
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	var mu sync.Mutex
	conn := kit.Connect(t, amqpkit.Config{})
	c, err := consumer.New(conn, consumer.Config{Queue: queue, Workers: 8, Key: keyOf}, func(_ context.Context, d *consumer.Delivery) error {
		began := time.Now().UnixNano()
		kit.Work(5 * time.Millisecond)
		key, number, _ := strings.Cut(string(d.Body), "/")
		mu.Lock()
		defer mu.Unlock()
		fmt.Println("handled", key, number, began, time.Now().UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(ctx); err != nil {
		t.Error(err)
	}
}

// RabbitMQ 4.3 keeps a consumer that timed out. A late settlement would revive it, and no handler would receive its
// deliveries. The channel is closed before the late result could be sent.
func TestS96AConsumerThatTimedOutSwallowsNothing(t *testing.T) {
	kit.Needs43(t)
	kit.NeedsControl(t)
	for name, ending := range map[string]bool{"while Run goes on": false, "in an ordered drain": true} {
		t.Run(name, func(t *testing.T) {
			b := kit.NewConsumerBench(t)
			queue := b.Queue(nil)
			b.Publish(queue, "late")
			begun, release, got := make(chan struct{}, 1), make(chan struct{}), make(chan string, 20)
			var log kit.Logbook
			r := b.Start(consumer.Config{
				Queue: queue, Workers: 2, SingleActiveConsumer: ending, Logger: log.Logger(),
				Arguments: amqp.Table{"x-consumer-timeout": 1000},
			}, func(_ context.Context, d *consumer.Delivery) error {
				if string(d.Body) == "late" && !d.Redelivered {
					begun <- struct{}{}
					<-release
					return nil
				}
				got <- string(d.Body)
				return nil
			})
			kit.Receive(t, begun, "delivery")
			if ending {
				r.End()
				var lost *consumer.LostError
				if err := b.Broker.AwaitQueue(b.Ctx(), queue, func(c rabbit.Counts) bool { return c.Ready == 1 }); err != nil {
					t.Error(err)
				}
				close(release)
				if err := kit.Receive(t, r.Done, "Run's return"); !errors.As(err, &lost) {
					t.Errorf("Run = %v, want it to tell how the subscription was lost", err)
				}
				r = b.Start(consumer.Config{Queue: queue}, func(_ context.Context, d *consumer.Delivery) error {
					got <- string(d.Body)
					return nil
				})
			}
			if m := kit.Receive(t, got, "redelivery"); m != "late" {
				t.Errorf("got %s", m)
			}
			if !ending {
				close(release)
				kit.WaitFor(t, func() bool { return log.Count("result not sent") == 1 })
			}
			b.Publish(queue, kit.Numbers(10)...)
			for range 10 {
				kit.Receive(t, got, "message")
			}
			r.StopClean()
			b.ExpectLeft(queue, 0)
		})
	}
}
