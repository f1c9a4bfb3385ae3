package conformance

import (
	"os"
	"testing"

	"github.com/amqpkit/amqpkit/amqptest"
)

func TestConformanceWithOtherClients(t *testing.T) {
	for _, c := range Clients() {
		t.Run(c.Library, func(t *testing.T) {
			t.Parallel()
			if err := c.Missing(t.Context()); err != nil {
				if os.Getenv("CI") != "" {
					t.Fatalf("%s is missing (%v): apt-get install -y --no-install-recommends %s", c.Library, err, c.Package)
				}
				t.Skipf("%s is missing (%v): apt-get install -y --no-install-recommends %s", c.Library, err, c.Package)
			}
			got := c.Transcript(t, amqptest.Start(t).URL())
			if want := c.Recorded(t); got != want {
				t.Errorf("amqptest (-) and RabbitMQ (+) differ:\n%s", Diff(got, want))
			}
		})
	}
}
