package validate

import (
	"fmt"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// What it costs to look at headers before they go on the wire.
func BenchmarkTable(b *testing.B) {
	for _, entries := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("entries=%d", entries), func(b *testing.B) {
			table := amqp.Table{}
			for i := range entries {
				table[fmt.Sprintf("header-%d", i)] = "value"
			}
			b.ReportAllocs()
			for b.Loop() {
				if p := Table(table); p != nil {
					b.Fatal(p)
				}
			}
		})
	}
}
