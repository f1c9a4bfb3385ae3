package conformance

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/amqptest"
)

// A client of amqptest gets the same answers as the recorded ones of RabbitMQ 4.3.
func TestConformanceOfAmqptest(t *testing.T) {
	for _, c := range All() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			b := amqptest.Start(t, amqptest.Config{ManualClock: true})
			got := c.Transcript(t, Broker{URL: b.URL(), Pass: b.Advance})
			if want := c.Recorded(t); got != want {
				t.Errorf("amqptest (-) and RabbitMQ (+) differ:\n%s", Diff(got, want))
			}
		})
	}
}

func TestEveryTranscriptHasAScenario(t *testing.T) {
	names, err := fs.Glob(recorded, "testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, c := range All() {
		if !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`).MatchString(c.Name) || slices.Contains(have, c.Name) {
			t.Errorf("%q is not a valid scenario name, or is used twice", c.Name)
		}
		have = append(have, c.Name)
	}
	for _, name := range names {
		if c := strings.TrimSuffix(path.Base(name), ".txt"); !slices.Contains(have, c) {
			t.Errorf("%s does not belong to a scenario", name)
		}
	}
}
