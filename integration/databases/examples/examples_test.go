package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/integration/databases/internal/dbkit"
	"github.com/amqpkit/amqpkit/integration/databases/servers"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// build builds a program of the folder examples, which is a module. The race detector would make SQLite ten times slower.
func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	args := []string{"-C", filepath.Join("..", "..", "..", "examples", name), "build", "-buildvcs=false", "-o", path, "."}
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

func TestExampleOutboxWritesEachInvoiceOnce(t *testing.T) {
	kit.Forget(t, "outbox.orders")
	p := kit.StartProgram(t, kit.Broker(t).URL(), "outbox", build(t, "outbox"))
	p.Expect("orders: order 1 (book) committed with its message")
	p.Expect("orders: order 2 (unicorn) rolled back with its message: out of stock")
	p.Expect("orders: order 3 (lamp) committed with its message")
	p.ExpectAnyOrder("billing: invoice for order 1, 12 EUR", "billing: invoice for order 3, 30 EUR")
	p.ExpectAll("orders: message of order 1 published again", "billing: invoice for order 4, 50 EUR", "billing: 3 invoices, 92 EUR",
		"shut down: nothing left")
	kit.ExpectSettled(t, "outbox.orders")
}

func TestExampleDataSyncKeepsTwoDatabasesEqual(t *testing.T) {
	program := build(t, "data-sync")
	run := func(t *testing.T, args ...string) {
		t.Helper()
		kit.Forget(t, "data-sync.billing", "data-sync.orders")
		kit.Forget(t, "data-sync.requests")
		p := kit.StartProgram(t, kit.Broker(t).URL(), "data-sync", program, args...)
		var lines []string
		for len(lines) == 0 || !strings.HasPrefix(lines[len(lines)-1], "check: ") {
			lines = append(lines, p.Next())
		}
		p.ExpectEnd()
		p.Exits(0)
		if last := lines[len(lines)-1]; !regexp.MustCompile(`^check: \d{4} orders, 0 differences$`).MatchString(last) {
			t.Errorf("it ended with %q", last)
		}
		for _, want := range []string{
			"demo: 1000 orders exist", "demo: the billing service starts later", "billing: requests a snapshot", "demo: kill -9 billing, start it again",
			"demo: kill -9 orders, start it again", "orders: snapshot finished",
		} {
			if !slices.Contains(lines, want) {
				t.Errorf("it did not print %q", want)
			}
		}
	}
	t.Run("SQLite", func(t *testing.T) { run(t) })
	t.Run("PostgreSQL", func(t *testing.T) {
		variable, dsn, _ := strings.Cut(dbkit.Postgres(t).Env(), "=")
		t.Setenv(variable, dsn)
		run(t, "-postgres")
	})
	t.Run("without PostgreSQL", func(t *testing.T) {
		t.Setenv(servers.PostgresVar, "")
		if err := os.Unsetenv(servers.PostgresVar); err != nil {
			t.Fatal(err)
		}
		p := kit.StartProgram(t, kit.Broker(t).URL(), "data-sync", program, "-postgres")
		p.ExpectEnd()
		p.Exits(1)
		if s := p.Stderr.String(); !strings.Contains(s, "-postgres needs a server: set AMQPKIT_POSTGRES") {
			t.Errorf("it printed %q", s)
		}
	})
}
