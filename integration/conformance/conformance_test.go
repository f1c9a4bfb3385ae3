package conformance

import (
	"flag"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/internal/conformance"
)

var record = flag.Bool("record", false, "record the transcripts of internal/conformance from this broker")

// What RabbitMQ 4.3 has a client see is what amqptest is held to.
func TestConformance(t *testing.T) {
	b := kit.Needs43(t)
	for _, c := range conformance.All() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel() // most of a scenario is waiting
			got := c.Transcript(t, conformance.Broker{URL: b.URL(), Pass: time.Sleep})
			if *record {
				if err := c.Record("../..", got); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := c.Recorded(t); got != want {
				t.Errorf("RabbitMQ shows something else than was recorded:\n%s", conformance.Diff(got, want))
			}
		})
	}
}
