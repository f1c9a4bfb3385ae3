package kit

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

// reap is the goroutine that waits for the process of a private node. goleak ignores it: the node outlives a test process that
// restarted it for other packages.
const reap = "github.com/amqpkit/amqpkit/integration/rabbit.reap"

// shared is the broker of all tests in a package. Tests declare objects with unique names. A test that stops the broker must not
// run in parallel with others.
var shared *rabbit.Broker

// Main runs the tests of a package, usually a *testing.M, on a shared broker and returns the exit status. It uses the broker of
// integration/cmd/broker if that program started the process, and otherwise starts one with rabbit.Start.
func Main(m interface{ Run() int }) int {
	ctx := context.Background()
	var err error
	if handle := os.Getenv(rabbit.SharedVar); handle != "" && os.Getenv("AMQP_URL") == "" {
		shared, err = rabbit.Attach(ctx, handle)
	} else if shared, err = rabbit.Start(ctx, rabbit.Options{}); err == nil {
		fmt.Fprintf(os.Stderr, "testing on %s\n", shared)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = errors.Join(uncovered.report(os.Getenv(rabbit.SkippedVar)), shared.Close(ctx))
	if code == 0 {
		err = errors.Join(err, goleak.Find(goleak.IgnoreAnyFunction(reap)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// Broker returns the shared broker.
func Broker(t *testing.T) *rabbit.Broker {
	t.Helper()
	return shared
}

// Needs43 returns the shared broker to a test that requires RabbitMQ 4.3. On an older one the test is skipped and reported as
// not covered.
func Needs43(t *testing.T) *rabbit.Broker {
	t.Helper()
	if !shared.AtLeast(4, 3) {
		Skip(t, "needs 4.3")
	}
	return shared
}

// NeedsControl returns the shared broker to a test that stops or inspects it. On the broker from AMQP_URL the test is skipped
// and reported as not covered.
func NeedsControl(t *testing.T) *rabbit.Broker {
	t.Helper()
	if !shared.Owned() {
		Skip(t, "needs a broker that the test may control")
	}
	return shared
}

// notCovered collects the skipped tests that the broker cannot run. The last line of the output names them.
type notCovered struct {
	mu    sync.Mutex
	tests []string
}

var uncovered notCovered

// Skip skips a test that the broker cannot run.
func Skip(t *testing.T, why string) {
	t.Helper()
	uncovered.mu.Lock()
	uncovered.tests = append(uncovered.tests, fmt.Sprintf("%s (%s)", t.Name(), why))
	uncovered.mu.Unlock()
	t.Skip(why)
}

// report appends the tests to the file at path, one per line. It prints them if path is empty.
func (n *notCovered) report(path string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.tests) == 0 {
		return nil
	}
	slices.Sort(n.tests)
	if path == "" {
		fmt.Fprintf(os.Stderr, "not covered on RabbitMQ %s: %s\n", shared.Version(), strings.Join(n.tests, ", "))
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, strings.Join(n.tests, "\n"))
	return err
}

// ManagementURL returns the address of the management API of the shared broker, with its user guest. If the broker publishes none,
// the test is skipped and reported as not covered.
func ManagementURL(t *testing.T) string {
	t.Helper()
	const managementPort = 15672
	port, err := shared.HostPort(managementPort)
	if err != nil {
		Skip(t, "needs the management API of a container")
	}
	return fmt.Sprintf("http://guest:guest@127.0.0.1:%d", port)
}
