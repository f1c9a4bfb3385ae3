package conformance

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/amqptest"
)

// What amqptest has a client see is what RabbitMQ 4.3 was seen to.
func TestConformanceOfAmqptest(t *testing.T) {
	for _, c := range All() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			b := amqptest.Start(t, amqptest.Config{ManualClock: true})
			got := c.Transcript(t, Broker{URL: b.URL(), Pass: b.Advance})
			if want := c.Recorded(t); got != want {
				t.Errorf("amqptest and RabbitMQ differ:\n%s", Diff(got, want))
			}
		})
	}
}

func TestEveryTranscriptHasItsScenario(t *testing.T) {
	names, err := files()
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, c := range All() {
		if !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`).MatchString(c.Name) || slices.Contains(have, c.Name) {
			t.Errorf("%q is no name for a scenario, or is there twice", c.Name)
		}
		have = append(have, c.Name)
	}
	for _, name := range names {
		if c := strings.TrimSuffix(path.Base(name), ".txt"); !slices.Contains(have, c) {
			t.Errorf("%s belongs to no scenario", name)
		}
	}
}
