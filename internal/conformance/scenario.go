package conformance

import (
	"embed"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A Scenario is a series of client operations whose results are written to a transcript.
type Scenario struct {
	Name string // words joined by hyphens; also the name of its file in testdata
	Run  func(*Script)
}

// All returns every scenario.
func All() []Scenario {
	return slices.Concat(
		basics, routing, routingByHeaders, bindings, alternates,
		consuming, settling, contents, confirming, transactions, replying, closing,
		counts, deliveryLimits, deadLetters, deadLetterRouting,
		lengthLimits, timeLimits, priorities, singleActive, delayedRetries, consumerTimeouts,
		requeueOrders, fullDeadLetterQueues,
		declaring,
		Headers(), Violations(),
	)
}

// Headers returns the scenarios about encoding header tables.
func Headers() []Scenario { return headerTables }

// Violations returns the scenarios about protocol violations and about the order of frames.
func Violations() []Scenario {
	return slices.Concat(violations, contentViolations, handshakeViolations, frameOrders)
}

//go:embed testdata/*.txt
var recorded embed.FS

// Recorded returns the transcript recorded from RabbitMQ 4.3. It fails the test if the file is missing.
func (c Scenario) Recorded(tb testing.TB) string {
	tb.Helper()
	b, err := recorded.ReadFile(c.file())
	if err != nil {
		tb.Errorf("%s has no recorded transcript: %v", c.Name, err)
	}
	return string(b)
}

// Record writes the transcript into testdata of the checkout at dir.
func (c Scenario) Record(dir, transcript string) error {
	return os.WriteFile(filepath.Join(dir, "internal", "conformance", filepath.FromSlash(c.file())), []byte(transcript), 0o600)
}

func (c Scenario) file() string { return "testdata/" + c.Name + ".txt" }
