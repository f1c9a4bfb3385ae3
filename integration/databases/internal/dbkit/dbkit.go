// Package dbkit holds helpers of the tests that need a database.
package dbkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/amqpkit/amqpkit/integration/databases/servers"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// Main runs the tests of a package on the shared RabbitMQ of kit.Main, and stops the servers of Postgres and MariaDB at the
// end. It returns the exit status.
func Main(m *testing.M) int { return kit.Main(suite{m}) }

type suite struct{ tests *testing.M }

// Run runs the tests and stops the servers, before kit.Main looks for goroutines that were left behind.
func (s suite) Run() int {
	code := s.tests.Run()
	if err := errors.Join(postgres.stop(), mariadb.stop()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// A shared is a server for all tests of a package. The first test that needs it starts it.
type shared struct {
	start  func(context.Context) (*servers.Server, error)
	once   sync.Once
	server *servers.Server
	err    error
}

var (
	postgres = shared{start: servers.StartPostgres}
	mariadb  = shared{start: servers.StartMariaDB}
)

// Postgres returns the PostgreSQL of all tests in a package. A test that kills it must not run in parallel with others, and
// calls NeedsControl.
func Postgres(t *testing.T) *servers.Server {
	t.Helper()
	return postgres.get(t)
}

// MariaDB returns the MariaDB of all tests in a package. A test that kills it must not run in parallel with others, and
// calls NeedsControl.
func MariaDB(t *testing.T) *servers.Server {
	t.Helper()
	return mariadb.get(t)
}

// NeedsControl skips a test that kills or restarts s if s is a server from the environment, and reports it as not covered.
func NeedsControl(t *testing.T, s *servers.Server) {
	t.Helper()
	if !s.Owned() {
		kit.Skip(t, "needs a database server that the test may control")
	}
}

func (s *shared) get(t *testing.T) *servers.Server {
	t.Helper()
	s.once.Do(func() {
		s.server, s.err = s.start(context.Background()) // the server outlives the test
		if s.err == nil {
			fmt.Fprintf(os.Stderr, "testing on %s\n", s.server)
		}
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server
}

func (s *shared) stop() error {
	if s.server == nil {
		return nil
	}
	return s.server.Stop()
}
