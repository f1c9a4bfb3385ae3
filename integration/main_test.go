package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// shared is the one broker of all tests in this package. Tests use names of their own for whatever
// they declare, and those that stop it do not run in parallel with others.
var shared *rabbit.Broker

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx := context.Background()
	var err error
	if shared, err = rabbit.Start(ctx, rabbit.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "testing on %s\n", shared)
	code := m.Run()
	if line := uncovered.summary(shared.Version()); line != "" {
		fmt.Fprintln(os.Stderr, line)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = shared.Close(ctx)
	if code == 0 {
		err = errors.Join(err, goleak.Find())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// broker returns the shared broker.
func broker(t *testing.T) *rabbit.Broker {
	t.Helper()
	return shared
}

// needs43 returns the shared broker to a test of what RabbitMQ 4.3 brought. On an older one the test
// is reported as not covered.
func needs43(t *testing.T) *rabbit.Broker {
	t.Helper()
	if !shared.AtLeast(4, 3) {
		uncovered.skip(t, "needs 4.3")
	}
	return shared
}

// needsControl returns the shared broker to a test that stops it or looks inside. On the user's own
// broker the test is reported as not covered.
func needsControl(t *testing.T) *rabbit.Broker {
	t.Helper()
	if !shared.Owned() {
		uncovered.skip(t, "needs a broker that it may control")
	}
	return shared
}

// notCovered collects the tests that the broker at hand cannot run. They are named in the closing line, so that
// nobody takes a pass for a proof.
type notCovered struct {
	mu    sync.Mutex
	tests []string
}

var uncovered notCovered

func (n *notCovered) skip(t *testing.T, why string) {
	t.Helper()
	n.mu.Lock()
	n.tests = append(n.tests, fmt.Sprintf("%s (%s)", t.Name(), why))
	n.mu.Unlock()
	t.Skip(why)
}

func (n *notCovered) summary(version string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.tests) == 0 {
		return ""
	}
	slices.Sort(n.tests)
	return fmt.Sprintf("not covered on RabbitMQ %s: %s", version, strings.Join(n.tests, ", "))
}
