package servers

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/amqpkit/amqpkit/integration/internal/ports"
)

const (
	startTimeout = 2 * time.Minute  // until a server accepts logins, including its recovery after a crash
	stopTimeout  = 30 * time.Second // for a clean shutdown; the server is killed after that
	dropTimeout  = 10 * time.Second // for the databases that are removed from a server that continues to run
	pollInterval = 20 * time.Millisecond
)

// administrator is the user of private servers.
const administrator = "amqpkit"

// An engine is a kind of server.
type engine interface {
	String() string // the name of the product
	driver() string // for database/sql
	// account is the system user that runs the server if this process runs as root, if it exists.
	account() string
	// prepare creates the data or the configuration of a private server.
	prepare(ctx context.Context, s *Server) error
	// command returns the command that runs the server in the foreground.
	command(s *Server) []string
	// shutdown is the signal for a clean shutdown.
	shutdown() syscall.Signal
	// dsn returns the address of a database of a private server, or of the one for administration if name is "".
	dsn(s *Server, name string) string
	// withDatabase replaces the database in a DSN.
	withDatabase(dsn, name string) (string, error)
	// version is the query for the version.
	version() string
	// create and drop are the statements that create and remove a database.
	create(name string) string
	drop(name string) string
}

// A Server is a database server. Kill, Shutdown, Restart and Stop must not be called concurrently with each other. All
// other methods are safe for concurrent use.
type Server struct {
	engine   engine
	admin    string // DSN for administration
	version  string
	variable string  // for Env
	upstream *Server // the PostgreSQL behind a PgBouncer

	// Fields of private servers. folder is nil for the others.
	folder   *folder
	port     int
	password string
	log      string
	running  *process

	mu        sync.Mutex
	databases []string // from NewDatabase
}

// use returns the server from an environment variable.
func use(ctx context.Context, e engine, variable, dsn string) (*Server, error) {
	s := &Server{engine: e, admin: dsn, variable: variable}
	if err := s.ping(ctx); err != nil {
		return nil, fmt.Errorf("servers: the server from %s does not answer: %w", variable, err)
	}
	return s, nil
}

// start starts a private server.
func start(ctx context.Context, s *Server) (*Server, error) {
	if err := supported(); err != nil {
		return nil, fmt.Errorf("servers: start %s: %w", s.engine, err)
	}
	if err := s.begin(ctx); err != nil {
		err = fmt.Errorf("servers: start %s: %w%s", s.engine, err, s.logTail())
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) begin(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if s.folder, err = newFolder(s.engine.account()); err != nil {
		return err
	}
	if s.port, err = ports.Free(0); err != nil {
		return err
	}
	s.log = s.folder.file("server.log")
	s.password = rand.Text()
	s.admin = s.engine.dsn(s, "")
	if err := s.engine.prepare(ctx, s); err != nil {
		return err
	}
	return s.launch(ctx)
}

// launch starts the server and returns once it accepts logins.
func (s *Server) launch(ctx context.Context) error {
	p, err := s.folder.spawn(s.log, s.engine.command(s)...)
	if err != nil {
		return err
	}
	s.running = p
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return errors.New("the server exited")
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("not ready in time: %w, last: %w", context.Cause(ctx), err), p.kill())
		case <-time.After(pollInterval):
		}
	}
}

// ping logs in and reads the version.
func (s *Server) ping(ctx context.Context) error {
	return s.administer(func(db *sql.DB) error {
		var version string
		if err := db.QueryRowContext(ctx, s.engine.version()).Scan(&version); err != nil {
			return err
		}
		if s.version == "" { // only the first time: other goroutines may read the field during a restart
			s.version, _, _ = strings.Cut(version, " ")
		}
		return nil
	})
}

// administer calls do with a connection to the database for administration.
func (s *Server) administer(do func(*sql.DB) error) error {
	db, err := sql.Open(s.engine.driver(), s.admin)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	return errors.Join(do(db), db.Close())
}

// run runs a program of the server as the server's user and waits for its exit.
func (s *Server) run(ctx context.Context, command ...string) error {
	p, err := s.folder.spawn(s.log, command...)
	if err != nil {
		return err
	}
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("%s: %w", command[0], p.err)
		}
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s: %w", command[0], context.Cause(ctx)), p.kill())
	}
}

// logTail quotes the end of the server's log.
func (s *Server) logTail() string {
	text, err := os.ReadFile(s.log)
	if err != nil || len(text) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "\nend of its log:\n" + strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// Owned reports whether this process started the server. If not, Kill, Shutdown and Restart return ErrNotOwned.
func (s *Server) Owned() bool { return s.folder != nil }

// Driver returns the name of the server's driver for database/sql: "pgx" or "mysql".
func (s *Server) Driver() string { return s.engine.driver() }

// DSN returns the address of the server's database for administration. A restart does not change it. It contains the
// password.
func (s *Server) DSN() string { return s.admin }

// PID returns the id of the server's main process, whose children serve the connections. It returns zero for a server from
// the environment.
func (s *Server) PID() int {
	if !s.Owned() {
		return 0
	}
	return s.running.pid
}

// Env returns "AMQPKIT_POSTGRES=dsn" or "AMQPKIT_MARIADB=dsn", for the environment of a child process that shares the
// server. It returns "" for a PgBouncer.
func (s *Server) Env() string {
	if s.variable == "" {
		return ""
	}
	return s.variable + "=" + s.admin
}

// Version returns the server's version, such as "15.18" or "10.11.19-MariaDB-0+deb12u1". The one of a PgBouncer is the version
// of its PostgreSQL.
func (s *Server) Version() string { return s.version }

// String returns the product, the version and where the server runs. It does not contain the password.
func (s *Server) String() string {
	if s.Owned() {
		return fmt.Sprintf("%s %s on 127.0.0.1:%d", s.engine, s.version, s.port)
	}
	return fmt.Sprintf("%s %s from %s", s.engine, s.version, s.variable)
}

// NewDatabase creates an empty database and returns its DSN. Its name consists of the given one, of at most 40 bytes, and a
// random suffix. A PgBouncer creates it on its PostgreSQL. Stop removes it.
func (s *Server) NewDatabase(ctx context.Context, name string) (dsn string, err error) {
	name += "_" + strings.ToLower(rand.Text()[:10])
	owner := s
	if s.upstream != nil {
		owner = s.upstream
	}
	err = owner.administer(func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, owner.engine.create(name))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("servers: create database %s on %s: %w", name, owner, err)
	}
	owner.mu.Lock()
	owner.databases = append(owner.databases, name)
	owner.mu.Unlock()
	if s.Owned() {
		return s.engine.dsn(s, name), nil
	}
	return s.engine.withDatabase(s.admin, name)
}

// Kill kills all processes of the server at once, as a crash does, and waits until they have exited. The data stays on disk
// for Restart. It returns ErrNotOwned for a server from the environment.
func (s *Server) Kill() error {
	if !s.Owned() {
		return ErrNotOwned
	}
	if err := s.running.kill(); err != nil {
		return fmt.Errorf("servers: kill %s: %w", s, err)
	}
	return nil
}

// Shutdown shuts the server down cleanly: open connections are closed, and nothing has to be recovered by the next start.
// A server that takes longer than 30 s is killed. It returns ErrNotOwned for a server from the environment.
func (s *Server) Shutdown() error {
	if !s.Owned() {
		return ErrNotOwned
	}
	s.running.signal(s.engine.shutdown())
	select {
	case <-s.running.exited:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("servers: %s did not shut down in time", s), s.running.kill())
	}
}

// Restart starts a killed or shut down server again, on the same port and with the same data, and returns once it accepts
// logins. A running server is shut down first. It returns ErrNotOwned for a server from the environment.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Shutdown(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.launch(ctx); err != nil {
		return fmt.Errorf("servers: restart %s: %w%s", s, err, s.logTail())
	}
	return nil
}

// Stop kills the server and removes its data. A server from the environment continues to run; Stop removes the databases
// from NewDatabase there. The second call does nothing.
func (s *Server) Stop() error {
	if !s.Owned() {
		return s.dropDatabases()
	}
	var errs []error
	if s.running != nil {
		errs = append(errs, s.running.kill())
	}
	if err := errors.Join(append(errs, s.folder.remove())...); err != nil {
		return fmt.Errorf("servers: stop %s: %w", s.engine, err)
	}
	return nil
}

func (s *Server) dropDatabases() error {
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	s.mu.Lock()
	names := s.databases
	s.databases = nil
	s.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	err := s.administer(func(db *sql.DB) error {
		var errs []error
		for _, name := range names {
			_, err := db.ExecContext(ctx, s.engine.drop(name))
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("servers: remove databases from %s: %w", s, err)
	}
	return nil
}
