package connection

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// An application publishes and consumes its own messages. Every new session declares ten objects.
type application struct {
	conn     *amqpkit.Conn
	p        *producer.Producer
	exchange string
	objects  topology.Topology
	dials    atomic.Int32
	expected sync.Map // by message id: chan time.Time
}

// startApplication connects one under a name by way of url.
func startApplication(t *testing.T, url, name string) *application {
	t.Helper()
	a := &application{exchange: name}
	objects := &a.objects
	for i := range 4 {
		queue := fmt.Sprint(name, "-", i)
		objects.Queues = append(objects.Queues, topology.Queue{Name: queue})
		objects.Bindings = append(objects.Bindings, topology.Binding{Source: name, Queue: queue, Key: fmt.Sprint(i)})
	}
	for _, x := range []string{name, name + "-audit"} {
		objects.Exchanges = append(objects.Exchanges, topology.Exchange{Name: x, Type: topology.Direct})
	}
	t.Cleanup(func() {
		ch := kit.RawChannel(t)
		for _, q := range objects.Queues {
			_, _ = ch.QueueDelete(q.Name, false, false, false)
		}
		for _, x := range objects.Exchanges {
			_ = ch.ExchangeDelete(x.Name, false, false)
		}
	})
	a.conn = kit.Connect(t, amqpkit.Config{
		URLs: []string{url}, Name: name, Setup: objects.Declare,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			a.dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	a.p = kit.NewProducer(t, a.conn, producer.Config{})
	c, err := consumer.New(a.conn, consumer.Config{Queue: objects.Queues[0].Name, Logger: kit.Logger(t)}, func(_ context.Context, d *consumer.Delivery) error {
		if arrived, ok := a.expected.LoadAndDelete(d.MessageId); ok {
			arrived.(chan time.Time) <- time.Now()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	running, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(running); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(func() { end(); wg.Wait() })
	if err := c.Ready(kit.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	return a
}

// roundTrip publishes a message and returns when it was confirmed, and when it was delivered.
func (a *application) roundTrip(ctx context.Context) (confirmed, delivered time.Time, err error) {
	id, arrived := rand.Text(), make(chan time.Time, 1)
	a.expected.Store(id, arrived)
	if err := a.p.Publish(ctx, a.exchange, "0", amqp.Publishing{MessageId: id}); err != nil {
		return confirmed, delivered, err
	}
	confirmed = time.Now()
	select {
	case delivered = <-arrived:
		return confirmed, delivered, nil
	case <-ctx.Done():
		return confirmed, delivered, fmt.Errorf("not delivered: %w", ctx.Err())
	}
}

// bare does with amqp091-go alone what an application does after a loss, one thing after the other: connect, declare, and
// publish one message.
func (a *application) bare(url string) (took time.Duration, err error) {
	start := time.Now()
	ac, err := amqp.Dial(url)
	if err != nil {
		return 0, err
	}
	defer ac.Close()
	if err := a.objects.Declare(context.Background(), ac); err != nil {
		return 0, err
	}
	ch, err := ac.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		return 0, err
	}
	c, err := ch.PublishWithDeferredConfirm(a.exchange, "1", true, false, amqp.Publishing{})
	if err != nil {
		return 0, err
	}
	if !c.Wait() {
		return 0, errors.New("not confirmed")
	}
	return time.Since(start), nil
}

// workTime is how long a session lives before a fault meets it. What dies as soon as it is up is another case:
// TestSessionsThatDieAtOnceDoNotMakeAHotLoop.
const workTime = 30 * time.Millisecond

// A spread is a number of durations, shortest first.
type spread []time.Duration

func (s spread) at(percent int) time.Duration { return s[(len(s)-1)*percent/100] }

func (s spread) String() string {
	if len(s) == 0 {
		return "not measured"
	}
	r := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	return fmt.Sprintf("median %v, p99 %v, longest %v (%d samples)", r(s.at(50)), r(s.at(99)), r(s.at(100)), len(s))
}

// promptly returns an error if work goes on too late: after 50 ms at the median or 250 ms at p99; where the machine is so
// busy that a bare client takes long to do the same, after three times as long as that and the pause before it.
func (s spread) promptly(bare spread) error {
	median, p99 := 50*time.Millisecond, 250*time.Millisecond
	if len(bare) > 0 {
		median, p99 = max(median, 3*bare.at(50)+10*time.Millisecond), max(p99, 3*bare.at(99)+20*time.Millisecond)
	}
	if s.at(50) > median || s.at(99) > p99 {
		return fmt.Errorf("%v, want at most %v at the median and %v at p99; a bare client: %v", s, median, p99, bare)
	}
	return nil
}

// bestOf measures up to three times, until once all is as it should be: what else runs on the machine can only make
// it slower.
func bestOf(t *testing.T, measure func() error) {
	t.Helper()
	for try := 1; ; try++ {
		err := measure()
		switch {
		case err == nil:
			return
		case try == 3:
			t.Fatal(err)
		}
		t.Logf("once more: %v", err)
	}
}
