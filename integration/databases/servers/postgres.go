package servers

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// PostgresVar is the environment variable with the DSN of a running PostgreSQL, as a URL or as key=value pairs. Its user
// must be allowed to create databases.
const PostgresVar = "AMQPKIT_POSTGRES"

// maxConnections is the limit of every private server. It leaves room for tests that run in parallel.
const maxConnections = "300"

type postgres struct{ bin string } // the folder of initdb and postgres

// StartPostgres starts a PostgreSQL from Debian's package postgresql, or uses the one from AMQPKIT_POSTGRES. ctx bounds the
// start only. The newest installed version is used. It returns a *MissingError if PostgreSQL is not installed.
func StartPostgres(ctx context.Context) (*Server, error) {
	if dsn := os.Getenv(PostgresVar); dsn != "" {
		return use(ctx, postgres{}, PostgresVar, dsn)
	}
	initdb := find("initdb", newestPostgres()...)
	if initdb == "" {
		return nil, &MissingError{Server: "PostgreSQL", Program: "initdb", Packages: "postgresql"}
	}
	if path, err := filepath.EvalSymlinks(initdb); err == nil {
		initdb = path
	}
	return start(ctx, &Server{engine: postgres{bin: filepath.Dir(initdb)}, variable: PostgresVar})
}

// newestPostgres returns the folders of Debian's packages, newest version first. They are not in $PATH.
func newestPostgres() []string {
	folders, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	version := func(folder string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
		return n
	}
	slices.SortFunc(folders, func(a, b string) int { return version(b) - version(a) })
	return folders
}

func (postgres) String() string { return "PostgreSQL" }

func (postgres) driver() string { return "pgx" }

func (postgres) account() string { return "postgres" }

func (e postgres) prepare(ctx context.Context, s *Server) error {
	password, err := s.folder.write("password", s.password)
	if err != nil {
		return err
	}
	// The data is not yet worth a sync; the server itself runs with fsync.
	return s.run(ctx, filepath.Join(e.bin, "initdb"), "--pgdata="+s.folder.file("data"), "--username="+administrator, "--pwfile="+password,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
}

func (e postgres) command(s *Server) []string {
	args := []string{filepath.Join(e.bin, "postgres"), "-D", s.folder.file("data")}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(s.port),
		"unix_socket_directories=",
		"max_connections=" + maxConnections,
		"fsync=on",
		"synchronous_commit=on",
		"dynamic_shared_memory_type=mmap", // in the data folder, so that a killed server leaves nothing in /dev/shm
	} {
		args = append(args, "-c", setting)
	}
	return args
}

// shutdown is a "fast" shutdown, which does not wait for clients.
func (postgres) shutdown() syscall.Signal { return syscall.SIGINT }

func (postgres) dsn(s *Server, name string) string {
	if name == "" {
		name = "postgres"
	}
	return postgresURL(s.port, url.UserPassword(administrator, s.password), name, "")
}

func postgresURL(port int, user *url.Userinfo, name, options string) string {
	u := url.URL{
		Scheme: "postgres", User: user, Path: "/" + name, RawQuery: "sslmode=disable" + options,
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
	}
	return u.String()
}

func (postgres) withDatabase(dsn, name string) (string, error) {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return fmt.Sprintf("%s dbname=%s", dsn, name), nil // the last one counts
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", errInvalidDSN // not wrapped: its text may contain the password
	}
	u.Path = "/" + name
	return u.String(), nil
}

func (postgres) version() string { return "SHOW server_version" }

func (postgres) create(name string) string { return "CREATE DATABASE " + quote(name, '"') }

func (postgres) drop(name string) string {
	return "DROP DATABASE IF EXISTS " + quote(name, '"') + " WITH (FORCE)"
}

// quote quotes an identifier.
func quote(name string, with byte) string {
	q := string(with)
	return q + strings.ReplaceAll(name, q, q+q) + q
}
