package conformance

import (
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/internal/conformance"
)

// sameOnAmqptest runs scenarios on RabbitMQ and on amqptest at once.
func sameOnAmqptest(t *testing.T, scenarios []conformance.Scenario) {
	t.Helper()
	b := kit.Needs43(t)
	for _, c := range scenarios {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel() // most of a scenario is waiting
			fake := amqptest.Start(t, amqptest.Config{ManualClock: true})
			want := c.Transcript(t, conformance.Broker{URL: b.URL(), Pass: time.Sleep})
			got := c.Transcript(t, conformance.Broker{URL: fake.URL(), Pass: fake.Advance})
			if got != want {
				t.Errorf("amqptest and RabbitMQ differ:\n%s", conformance.Diff(got, want))
			}
		})
	}
}

func TestS94HeaderTablesAreEncodedAsByRabbitMQ(t *testing.T) {
	sameOnAmqptest(t, conformance.Headers())
}

func TestS94HeaderTablesSurviveARestart(t *testing.T) {
	kit.Needs43(t)
	b := kit.NeedsControl(t)
	want := conformance.AfterRestart(func() {
		if err := b.Restart(kit.Within(t, 2*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}).Transcript(t, conformance.Broker{URL: b.URL()})
	fake := amqptest.Start(t)
	got := conformance.AfterRestart(func() {
		fake.Stop()
		if err := fake.Start(); err != nil {
			t.Fatal(err)
		}
	}).Transcript(t, conformance.Broker{URL: fake.URL()})
	if got != want {
		t.Errorf("amqptest and RabbitMQ differ:\n%s", conformance.Diff(got, want))
	}
}

func TestS95ProtocolViolationsAreAnsweredAsByRabbitMQ(t *testing.T) {
	sameOnAmqptest(t, conformance.Violations())
}

func TestS95PikaAndPyAMQPPrintTheSame(t *testing.T) {
	b := kit.Needs43(t)
	for _, c := range conformance.Clients() {
		t.Run(c.Library, func(t *testing.T) {
			t.Parallel()
			if err := c.Missing(t.Context()); err != nil {
				t.Fatalf("%s is missing (%v); install it: apt-get install -y --no-install-recommends %s", c.Library, err, c.Package)
			}
			want := c.Transcript(t, b.URL())
			if *record {
				if err := c.Record("../..", want); err != nil {
					t.Fatal(err)
				}
			} else if recorded := c.Recorded(t); want != recorded {
				t.Errorf("RabbitMQ shows something else than was recorded:\n%s", conformance.Diff(want, recorded))
			}
			if got := c.Transcript(t, amqptest.Start(t).URL()); got != want {
				t.Errorf("amqptest and RabbitMQ differ:\n%s", conformance.Diff(got, want))
			}
		})
	}
}
