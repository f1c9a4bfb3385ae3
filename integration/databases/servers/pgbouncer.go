package servers

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// pgbouncer differs from its PostgreSQL in how it is started.
type pgbouncer struct {
	postgres
	program string
}

// StartPgBouncer starts a PgBouncer from Debian's package pgbouncer in front of a PostgreSQL, with pool_mode=transaction.
// ctx bounds the start only. Its DSNs make pgx use unnamed statements (default_query_exec_mode=exec), because PgBouncer
// before 1.21 does not support prepared statements in this mode. Stop it before the PostgreSQL. It returns a *MissingError
// if PgBouncer is not installed.
func StartPgBouncer(ctx context.Context, behind *Server) (*Server, error) {
	program := find("pgbouncer", "/usr/sbin")
	if program == "" {
		return nil, &MissingError{Server: "PgBouncer", Program: "pgbouncer", Package: "pgbouncer"}
	}
	return start(ctx, &Server{engine: pgbouncer{program: program}, upstream: behind})
}

func (pgbouncer) String() string { return "PgBouncer" }

// prepare lets the administrator of the PostgreSQL log in with the same password.
func (pgbouncer) prepare(_ context.Context, s *Server) error {
	target, err := pgx.ParseConfig(s.upstream.admin)
	if err != nil {
		return errInvalidDSN // not wrapped: its text may contain the password
	}
	users, err := s.folder.write("users", fmt.Sprintf("%s %s\n%s %s\n",
		quote(administrator, '"'), quote(s.password, '"'), quote(target.User, '"'), quote(target.Password, '"')))
	if err != nil {
		return err
	}
	_, err = s.folder.write("pgbouncer.ini", strings.Join([]string{
		"[databases]",
		fmt.Sprintf("* = host=%s port=%d user=%s", target.Host, target.Port, target.User),
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

func (pgbouncer) dsn(s *Server, name string) string {
	if name == "" {
		if target, err := pgx.ParseConfig(s.upstream.admin); err == nil {
			name = target.Database
		}
	}
	return postgresURL(s.port, s.password, name, "&default_query_exec_mode=exec")
}
