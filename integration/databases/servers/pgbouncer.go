package servers

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// pgbouncer differs from its PostgreSQL in how it is started.
type pgbouncer struct {
	postgres
	program string
	target  *pgx.ConnConfig // the PostgreSQL behind it
}

// StartPgBouncer starts a PgBouncer from Debian's package pgbouncer in front of a PostgreSQL, with pool_mode=transaction.
// ctx bounds the start only. Its DSNs make pgx use unnamed statements (default_query_exec_mode=exec), because PgBouncer
// before 1.21 does not support prepared statements in this mode. Stop it before the PostgreSQL. It returns a *MissingError
// if PgBouncer is not installed.
func StartPgBouncer(ctx context.Context, behind *Server) (*Server, error) {
	program := find("pgbouncer", "/usr/sbin")
	if program == "" {
		return nil, &MissingError{Server: "PgBouncer", Program: "pgbouncer", Packages: "pgbouncer"}
	}
	target, err := pgx.ParseConfig(behind.admin)
	if err != nil {
		return nil, fmt.Errorf("servers: start PgBouncer: %w", errInvalidDSN)
	}
	return start(ctx, &Server{engine: pgbouncer{program: program, target: target}, upstream: behind})
}

func (pgbouncer) String() string { return "PgBouncer" }

// prepare lets the administrator of the PostgreSQL log in, with the same password.
func (e pgbouncer) prepare(_ context.Context, s *Server) error {
	users, err := s.folder.write("users", quote(e.target.User, '"')+" "+quote(e.target.Password, '"')+"\n")
	if err != nil {
		return err
	}
	_, err = s.folder.write("pgbouncer.ini", strings.Join([]string{
		"[databases]",
		fmt.Sprintf("* = host=%s port=%d user=%s", e.target.Host, e.target.Port, e.target.User),
		"[pgbouncer]",
		"pool_mode = transaction",
		"listen_addr = 127.0.0.1",
		"listen_port = " + strconv.Itoa(s.port),
		"unix_socket_dir =",
		"auth_type = scram-sha-256",
		"auth_file = " + users,
		"max_client_conn = " + maxConnections,
		"",
	}, "\n"))
	return err
}

func (e pgbouncer) command(s *Server) []string {
	return []string{e.program, s.folder.file("pgbouncer.ini")}
}

// shutdown does not wait for clients. The signals for that differ between versions, and PgBouncer has no state.
func (pgbouncer) shutdown() syscall.Signal { return syscall.SIGKILL }

func (e pgbouncer) dsn(s *Server, name string) string {
	if name == "" {
		name = e.target.Database
	}
	return postgresURL(s.port, url.UserPassword(e.target.User, e.target.Password), name, "&default_query_exec_mode=exec")
}
