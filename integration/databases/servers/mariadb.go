package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/go-sql-driver/mysql" // also the driver "mysql"
)

// MariaDBVar is the environment variable with the DSN of a running MariaDB or MySQL, in the format of the Go driver:
// user:password@tcp(host:port)/. The user must be allowed to create databases.
const MariaDBVar = "AMQPKIT_MARIADB"

// mariadbPackages contain the server without a system service. Package mariadb-server depends on both.
const mariadbPackages = "mariadb-server-core mariadb-client-core"

type mariadb struct{ server, install string } // paths of mariadbd and mariadb-install-db

// StartMariaDB starts a MariaDB from Debian's packages mariadb-server-core and mariadb-client-core, or uses the server from
// AMQPKIT_MARIADB. ctx bounds the start only. It returns a *MissingError if MariaDB is not installed.
func StartMariaDB(ctx context.Context) (*Server, error) {
	if dsn := os.Getenv(MariaDBVar); dsn != "" {
		return use(ctx, mariadb{}, MariaDBVar, dsn)
	}
	var e mariadb
	for program, path := range map[string]*string{
		"mariadbd":           &e.server,
		"mariadb-install-db": &e.install,
		"my_print_defaults":  new(string), // called by mariadb-install-db
	} {
		if *path = find(program, "/usr/sbin", "/usr/bin"); *path == "" {
			return nil, &MissingError{Server: "MariaDB", Program: program, Packages: mariadbPackages}
		}
	}
	return start(ctx, &Server{engine: e, variable: MariaDBVar})
}

func (mariadb) String() string { return "MariaDB" }

func (mariadb) driver() string { return "mysql" }

func (mariadb) account() string { return "mysql" }

// prepare creates the system tables and a file of statements that the server runs at each start, because the programs of
// the package cannot create a user with a password.
func (e mariadb) prepare(ctx context.Context, s *Server) error {
	_, err := s.folder.write("init.sql", fmt.Sprintf(
		"CREATE USER IF NOT EXISTS '%[1]s'@'127.0.0.1' IDENTIFIED BY '%[2]s';\nGRANT ALL ON *.* TO '%[1]s'@'127.0.0.1' WITH GRANT OPTION;\n",
		administrator, s.password))
	if err != nil {
		return err
	}
	return s.run(ctx, e.install, "--no-defaults", "--datadir="+s.folder.file("data"), "--auth-root-authentication-method=socket",
		"--skip-test-db", "--skip-name-resolve")
}

func (e mariadb) command(s *Server) []string {
	return []string{
		e.server, "--no-defaults",
		"--datadir=" + s.folder.file("data"), "--tmpdir=" + s.folder.path, "--init-file=" + s.folder.file("init.sql"),
		"--socket=" + s.folder.file("socket"), "--pid-file=" + s.folder.file("mariadbd.pid"),
		"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(s.port), "--skip-name-resolve",
		"--max-connections=" + maxConnections,
		"--innodb-flush-log-at-trx-commit=1",
		"--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci", // as in Debian's configuration
	}
}

func (mariadb) shutdown() syscall.Signal { return syscall.SIGTERM }

func (mariadb) dsn(s *Server, name string) string {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.DBName = administrator, s.password, "tcp", name
	c.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
	return c.FormatDSN()
}

func (mariadb) withDatabase(dsn, name string) (string, error) {
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		return "", errInvalidDSN // not wrapped: its text may contain the password
	}
	c.DBName = name
	return c.FormatDSN(), nil
}

func (mariadb) version() string { return "SELECT VERSION()" }

func (mariadb) create(name string) string { return "CREATE DATABASE " + quote(name, '`') }

func (mariadb) drop(name string) string { return "DROP DATABASE IF EXISTS " + quote(name, '`') }
