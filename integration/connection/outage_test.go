package connection

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// backAfter measures, with all applications at once, from start to the first confirm and the first delivery. It
// returns an error if one of them took longer than a second.
func backAfter(ctx context.Context, t *testing.T, start time.Time, apps []*application) error {
	t.Helper()
	confirms, deliveries := make(spread, len(apps)), make(spread, len(apps))
	var wg sync.WaitGroup
	for i, a := range apps {
		wg.Go(func() {
			confirmed, delivered, err := a.roundTrip(ctx)
			if err != nil {
				t.Error(err)
			}
			confirms[i], deliveries[i] = confirmed.Sub(start), delivered.Sub(start)
		})
	}
	wg.Wait()
	slices.Sort(confirms)
	slices.Sort(deliveries)
	t.Logf("to the first confirm:  %v", confirms)
	t.Logf("to the first delivery: %v", deliveries)
	if late := max(confirms.at(100), deliveries.at(100)); late > time.Second {
		return fmt.Errorf("work goes on after %v, want a second at most", late)
	}
	return nil
}

func TestS15WorkGoesOnWithinASecondOfTheEndOfAnOutage(t *testing.T) {
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	apps := make([]*application, 10)
	for i := range apps {
		apps[i] = startApplication(t, proxy.URL(), kit.Unique("outage"))
	}
	ctx := kit.Within(t, 2*time.Minute)
	for range 3 {
		bestOf(t, func() error {
			proxy.RefuseConnections(true)
			proxy.Cut()
			for _, a := range apps {
				a.dials.Store(0)
			}
			kit.WaitFor(t, func() bool { // so long that the pauses are drawn from up to 800 ms
				return !slices.ContainsFunc(apps, func(a *application) bool { return a.dials.Load() < 20 })
			})
			start := time.Now()
			proxy.RefuseConnections(false)
			return backAfter(ctx, t, start, apps)
		})
	}
}

// What a broker needs after its start to confirm and to deliver is counted too.
func TestS15WorkGoesOnWithinASecondOfACrashedBrokersReturn(t *testing.T) {
	b := kit.NeedsControl(t)
	apps := make([]*application, 5)
	for i := range apps {
		apps[i] = startApplication(t, b.URL(), kit.Unique("crash"))
	}
	ctx := kit.Within(t, 4*time.Minute)
	bestOf(t, func() error {
		if err := b.Kill(ctx); err != nil {
			t.Fatal(err)
		}
		started := make(chan error, 1)
		go func() { started <- b.Start(ctx) }()
		for { // until it accepts connections, which RabbitMQ gives no event for
			ac, err := amqp.DialConfig(b.URL(), amqp.Config{Dial: amqp.DefaultDial(time.Second)})
			if err == nil {
				_ = ac.Close()
				break
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal(err)
			}
		}
		late := backAfter(ctx, t, time.Now(), apps)
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		return late
	})
}
