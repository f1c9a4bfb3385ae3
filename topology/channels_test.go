package topology_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/topology"
)

func TestDeclareMakesDoWithTheChannelsThatAreLeft(t *testing.T) {
	topo := many()
	for i := range 30 { // more than the phase after them, which has fewer workers
		topo.Exchanges = append(topo.Exchanges, topology.Exchange{Name: fmt.Sprint("more-", i), Type: topology.Fanout})
	}
	for left := 1; left <= 3; left++ {
		t.Run(fmt.Sprint(left), func(t *testing.T) {
			b := amqptest.Start(t, amqptest.Config{ChannelMax: left + 1})
			ac := dial(t, b)
			// Each refusal costs a channel, so that those that replace them have to fit too.
			declare(t, ac, topology.Topology{
				Exchanges: []topology.Exchange{{Name: "more-7", Type: topology.Topic}},
				Queues:    []topology.Queue{{Name: "work-3", Type: topology.Classic}, {Name: "work-9", Type: topology.Classic}},
			})
			if _, err := ac.Channel(); err != nil {
				t.Fatal(err)
			}
			err := topo.Declare(t.Context(), ac)
			var objects []string
			for _, e := range each(err) {
				if c, ok := errors.AsType[*topology.ConflictError](e); ok {
					objects = append(objects, c.Object)
				}
			}
			if want := []string{`exchange "more-7"`, `queue "work-3"`, `queue "work-9"`}; !slices.Equal(objects, want) || len(each(err)) != len(want) {
				t.Errorf("Declare = %v, want the conflicts of %s", err, want)
			}
			if err := topo.Verify(t.Context(), ac); err != nil {
				t.Error(err)
			}
			if n := b.Connections()[0].Channels; n != 1 {
				t.Errorf("%d channels are open in the end, want the one that was", n)
			}
		})
	}
}

func TestDeclareWithoutAChannelSaysSoOnce(t *testing.T) {
	b := amqptest.Start(t, amqptest.Config{ChannelMax: 1})
	ac := dial(t, b)
	if _, err := ac.Channel(); err != nil {
		t.Fatal(err)
	}
	err := many().Declare(t.Context(), ac)
	if !errors.Is(err, amqp.ErrChannelMax) || len(each(err)) != 1 {
		t.Errorf("Declare = %v, want ErrChannelMax, once", err)
	}
	if n := len(b.Queues()); n != 0 || ac.IsClosed() {
		t.Errorf("the broker has %d queues, want none; the connection is closed: %v", n, ac.IsClosed())
	}
}

// A session's Setup is mostly small, and part of every recovery.
func TestChannelsGrowWithTheTopology(t *testing.T) {
	for _, test := range []struct{ objects, most int64 }{{9, 1}, {30, 3}, {300, 8}} {
		t.Run(fmt.Sprint(test.objects), func(t *testing.T) {
			p := amqptest.StartProxy(t, amqptest.Start(t).URL())
			var opened atomic.Int64
			p.Observe(func(e amqptest.Event) {
				if e.Kind == amqptest.ChannelOpened {
					opened.Add(1)
				}
			})
			ac, err := amqp.Dial(p.URL())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = ac.CloseDeadline(time.Now().Add(time.Second)) })
			for range 2 {
				opened.Store(0)
				declare(t, ac, mixed(int(test.objects)))
				if n := opened.Load(); n < 1 || n > test.most {
					t.Errorf("declaring opened %d channels, want %d at most", n, test.most)
				}
			}
		})
	}
}

// mixed returns a topology of n objects: as many exchanges as queues of both types as bindings.
func mixed(n int) (topo topology.Topology) {
	types := []topology.QueueType{topology.Quorum, topology.Classic}
	for i := range n / 3 {
		name := fmt.Sprint("mixed-", i)
		topo.Exchanges = append(topo.Exchanges, topology.Exchange{Name: name, Type: topology.Topic})
		topo.Queues = append(topo.Queues, topology.Queue{Name: name, Type: types[i%2]})
		topo.Bindings = append(topo.Bindings, topology.Binding{Source: name, Queue: name, Key: "#"})
	}
	return topo
}

// What declaring again costs with a broker that has next to nothing to do for it. Both sides are in this process.
func BenchmarkDeclare(b *testing.B) {
	for _, n := range []int{9, 99, 999} {
		b.Run(fmt.Sprintf("objects=%d", n), func(b *testing.B) {
			broker := amqptest.Start(b)
			ac, err := amqp.Dial(broker.URL())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = ac.Close() }()
			topo := mixed(n)
			if err := topo.Declare(b.Context(), ac); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := topo.Declare(b.Context(), ac); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
