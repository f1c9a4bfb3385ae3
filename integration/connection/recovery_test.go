package connection

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestS12ResetOrEndOfTheStreamMeansANewSessionAtOnce(t *testing.T) {
	for name, fault := range map[string]func(*amqptest.Proxy) int{
		"RST": func(p *amqptest.Proxy) int { return p.Cut() },
		"FIN": func(p *amqptest.Proxy) int { return p.HalfClose(amqptest.FromBroker) },
	} {
		t.Run(name, func(t *testing.T) {
			proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
			conn := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}})
			ctx := kit.Within(t, 20*time.Second)
			bestOf(t, func() error {
				var took spread
				for range 20 {
					<-time.After(workTime)
					old, err := conn.PublishConnection(ctx)
					if err != nil {
						t.Fatal(err)
					}
					lost := old.NotifyClose(make(chan *amqp.Error, 1))
					start := time.Now()
					if n := fault(proxy); n != 1 {
						t.Fatalf("%d links", n)
					}
					if reason := <-lost; reason == nil || reason.Server || reason.Recover {
						t.Errorf("lost for %#v", reason)
					}
					fresh, err := conn.PublishConnection(ctx)
					if err != nil || fresh == old {
						t.Fatalf("no new session: %v", err)
					}
					took = append(took, time.Since(start))
				}
				slices.Sort(took)
				t.Logf("from %s to the next session: %v", name, took)
				return took.promptly(nil)
			})
		})
	}
}

// By turns an operator closes both connections, and both are reset. The clock starts when the first of them is lost; the
// message is published when both are.
func TestS14PublishingAndDeliveringGoOnAfterTwoHundredForcedCloses(t *testing.T) {
	const closes = 200
	kit.NeedsControl(t)
	ctx := kit.Within(t, 5*time.Minute)
	f := newForce(t)
	bestOf(t, func() error {
		confirms, deliveries, bare := f.closes(ctx, t, closes)
		t.Logf("%d forced closes of both connections, by an operator and by RST in turn; Setup declares 10 objects", closes)
		t.Logf("to the first confirm:  %v", confirms)
		t.Logf("to the first delivery: %v", deliveries)
		t.Logf("a bare client connects, declares and publishes in: %v", bare)
		return errors.Join(confirms.promptly(bare), deliveries.promptly(bare))
	})
}

// A force closes the connections of an application.
type force struct {
	proxy  *amqptest.Proxy
	app    *application
	name   string
	closed chan time.Time // by an operator, as the client is told
}

func newForce(t *testing.T) *force {
	t.Helper()
	f := &force{proxy: amqptest.StartProxy(t, kit.Broker(t).URL()), name: kit.Unique("forced"), closed: make(chan time.Time, 100)}
	f.app = startApplication(t, f.proxy.URL(), f.name)
	f.proxy.Observe(func(e amqptest.Event) {
		if e.Kind == amqptest.ConnectionClosed && e.From == amqptest.FromBroker && e.Code == amqp.ConnectionForced {
			f.closed <- e.At
		}
	})
	return f
}

// closes measures n times how long it takes from the loss to the first confirm and the first delivery, and in between how
// fast the machine is.
func (f *force) closes(ctx context.Context, t *testing.T, n int) (confirms, deliveries, bare spread) {
	t.Helper()
	for operator := true; len(confirms) < n; operator = !operator {
		if err := f.app.conn.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		<-time.After(workTime)
		var lost time.Time
		var links int
		if operator {
			lost, links = f.operator(ctx, t)
		} else {
			lost, links = time.Now(), f.proxy.Cut()
		}
		confirmed, delivered, err := f.app.roundTrip(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if links == 2 {
			confirms, deliveries = append(confirms, confirmed.Sub(lost)), append(deliveries, delivered.Sub(lost))
		}
		if len(confirms)%5 == 0 {
			took, err := f.app.bare(kit.Broker(t).URL())
			if err != nil {
				t.Fatal(err)
			}
			bare = append(bare, took)
		}
	}
	slices.Sort(confirms)
	slices.Sort(deliveries)
	slices.Sort(bare)
	return confirms, deliveries, bare
}

// operator returns when the first connection was lost, and how many were: the broker may not know one that is a moment
// old. It does not wait for the command, which ends later than the client is back.
func (f *force) operator(ctx context.Context, t *testing.T) (first time.Time, links int) {
	t.Helper()
	known := make(chan int, 1)
	go func() {
		n, err := kit.Broker(t).CloseConnection(ctx, f.name, "operator")
		if err != nil {
			t.Error(err)
		}
		known <- n
	}()
	for all := 2; links < all; {
		select {
		case at := <-f.closed:
			if links++; links == 1 {
				first = at
			}
		case all = <-known:
		}
	}
	return first, links
}

// The operator's close meets all clients of a broker at once.
func TestS14FleetClosedByTheOperatorComesBackSpread(t *testing.T) {
	const clients = 50
	b := kit.NeedsControl(t)
	ctx := kit.Within(t, 30*time.Second)
	name := kit.Unique("fleet")
	var mu sync.Mutex
	lostAt, dialledAt := make([]time.Time, clients), make([][]time.Time, clients)
	var wg sync.WaitGroup
	for i := range clients {
		conn := kit.Connect(t, amqpkit.Config{Name: name, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			dialledAt[i] = append(dialledAt[i], time.Now())
			mu.Unlock()
			return new(net.Dialer).DialContext(ctx, network, addr)
		}})
		old, err := conn.PublishConnection(ctx)
		if err != nil {
			t.Fatal(err)
		}
		lost := old.NotifyClose(make(chan *amqp.Error))
		wg.Go(func() {
			reason := <-lost
			lostAt[i] = time.Now()
			if reason == nil || reason.Code != amqp.ConnectionForced || !reason.Server || reason.Recover {
				t.Errorf("lost for %#v, want 320 that claims to be fatal", reason)
			}
			if fresh, err := conn.PublishConnection(ctx); err != nil || fresh == old {
				t.Errorf("no new session: %v", err)
			}
		})
	}
	kit.WaitFor(t, func() bool { return named(t, name) == clients })
	if n, err := b.CloseConnection(ctx, name, "maintenance"); err != nil || n != clients {
		t.Fatalf("%d connections closed: %v", n, err)
	}
	wg.Wait()
	var pauses spread
	for i, at := range dialledAt {
		if len(at) != 2 {
			t.Fatalf("a client dialled %d times, want once more", len(at))
		}
		pauses = append(pauses, at[1].Sub(lostAt[i]))
	}
	slices.Sort(pauses)
	t.Logf("%d clients closed at once dialled again after %v to %v, half of them between %v and %v",
		clients, pauses.at(0), pauses.at(100), pauses.at(25), pauses.at(75))
	if pauses.at(75)-pauses.at(25) < 5*time.Millisecond { // 10 ms, were it not for chance and the machine
		t.Errorf("half of them came within %v", pauses.at(75)-pauses.at(25))
	}
}
