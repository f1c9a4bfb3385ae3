package topology

import (
	"fmt"
	"testing"
)

// What it costs to find that a topology has no fault: exchanges, queues that dead-letter, and bindings.
func BenchmarkValidate(b *testing.B) {
	for _, objects := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("objects=%d", objects), func(b *testing.B) {
			var t Topology
			for i := range objects / 5 {
				exchange, queue := fmt.Sprintf("exchange-%d", i), fmt.Sprintf("queue-%d", i)
				t.Exchanges = append(t.Exchanges, Exchange{Name: exchange, Type: Topic})
				t.Queues = append(t.Queues,
					Queue{Name: queue, DeadLetter: &DeadLetter{RoutingKey: queue + ".failed"}},
					Queue{Name: queue + ".failed", DeliveryLimit: new(Unlimited)})
				t.Bindings = append(t.Bindings,
					Binding{Source: exchange, Queue: queue, Key: "order.*"},
					Binding{Source: exchange, Queue: queue, Key: "invoice.#"})
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := t.Validate(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What it costs to lint 1,000 queues with 5,000 bindings.
func BenchmarkLint(b *testing.B) {
	t := largeTopology(1000, func(i, j int) string { return fmt.Sprintf("service-%d.*.event-%d.#", i, j) })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := t.Lint(""); err != nil {
			b.Fatal(err)
		}
	}
}
