package topology

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/topology"
)

// thousand returns a topology of 1,000 objects: 200 exchanges, 150 quorum and 150 classic queues, 500 bindings.
func thousand(name func(string) string) topology.Topology {
	var topo topology.Topology
	for i := range 200 {
		topo.Exchanges = append(topo.Exchanges, topology.Exchange{Name: name(fmt.Sprint("exchange-", i)), Type: topology.Topic})
	}
	types := []topology.QueueType{topology.Quorum, topology.Classic}
	for i := range 300 {
		topo.Queues = append(topo.Queues, topology.Queue{Name: name(fmt.Sprint("queue-", i)), Type: types[i%2]})
	}
	for i := range 500 {
		topo.Bindings = append(topo.Bindings, topology.Binding{
			Source: topo.Exchanges[i%200].Name, Queue: topo.Queues[i%300].Name, Key: fmt.Sprint("key-", i),
		})
	}
	return topo
}

// declareRaw declares what thousand returns as a program without the toolkit does: one after the other, on one channel.
func declareRaw(ac *amqp.Connection, topo topology.Topology) error {
	ch, err := ac.Channel()
	if err != nil {
		return err
	}
	for _, x := range topo.Exchanges {
		if err := ch.ExchangeDeclare(x.Name, string(x.Type), true, false, false, false, nil); err != nil {
			return err
		}
	}
	for _, q := range topo.Queues {
		args := amqp.Table{"x-queue-type": string(q.Type)}
		if _, err := ch.QueueDeclare(q.Name, true, false, false, false, args); err != nil {
			return err
		}
	}
	for _, b := range topo.Bindings {
		if err := ch.QueueBind(b.Queue, b.Key, b.Source, false, nil); err != nil {
			return err
		}
	}
	return ch.Close()
}

// Medians are printed. What is compared is the shortest round of each side, since a busy machine only makes rounds
// longer, and the bounds leave room.
func TestDeclaringAThousandObjectsTakesLessThanARawLoop(t *testing.T) {
	const rounds = 5
	raw := kit.DialRaw(t)
	ours, err := kit.Connect(t, amqpkit.Config{}).ConsumeConnection(kit.Within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	sides := []func(topology.Topology) error{
		func(topo topology.Topology) error { return declareRaw(raw, topo) },
		func(topo topology.Topology) error { return topo.Declare(t.Context(), ours) },
	}
	var fresh, again [2][]time.Duration // by side
	for r := range rounds {
		for i := range sides {
			side := (r + i) % 2 // each goes first in turn
			topo := thousand(kit.Prefixed(t))
			fresh[side] = append(fresh[side], stopwatch(t, sides[side], topo))
			again[side] = append(again[side], stopwatch(t, sides[side], topo))
			deleteNow(t, topo)
		}
	}
	for _, row := range []struct {
		name  string
		times [2][]time.Duration
	}{{"fresh", fresh}, {"unchanged", again}} {
		t.Logf("%s: raw %v, Declare %v", row.name, row.times[0], row.times[1])
		raw, ours := median(row.times[0]), median(row.times[1])
		ratio := ours.Seconds() / raw.Seconds()
		fmt.Fprintf(os.Stderr, "declaring 1,000 objects, %s, medians of %d rounds: raw loop %v, Declare %v, ratio %.2f\n",
			row.name, rounds, raw.Round(time.Millisecond), ours.Round(time.Millisecond), ratio)
		if best := slices.Min(row.times[1]).Seconds() / slices.Min(row.times[0]).Seconds(); best > 0.75 {
			t.Errorf("%s: Declare took %.2f of the time of a raw loop, want well below 0.75", row.name, best)
		}
	}
	if f, a := slices.Min(fresh[1]), slices.Min(again[1]); a >= f {
		t.Errorf("declaring again what is unchanged took %v, want less than the %v of the first time", a, f)
	}
}

// stopwatch returns how long declare takes.
func stopwatch(t *testing.T, declare func(topology.Topology) error, topo topology.Topology) time.Duration {
	t.Helper()
	start := time.Now()
	if err := declare(topo); err != nil {
		deleteNow(t, topo)
		t.Fatal(err)
	}
	return time.Since(start)
}

func median(of []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(of))[len(of)/2]
}

// deleteNow deletes topo faster than deleteAfter does.
func deleteNow(t *testing.T, topo topology.Topology) {
	t.Helper()
	const channels = 8
	var wg sync.WaitGroup
	for c := range channels {
		ch := kit.RawChannel(t)
		wg.Go(func() {
			for i := c; i < len(topo.Queues); i += channels {
				if _, err := ch.QueueDelete(topo.Queues[i].Name, false, false, false); err != nil {
					t.Error(err)
					return
				}
			}
			for i := c; i < len(topo.Exchanges); i += channels {
				if err := ch.ExchangeDelete(topo.Exchanges[i].Name, false, false); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
