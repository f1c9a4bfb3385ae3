// Package servers starts private database servers for tests and programs, and stops them: PostgreSQL, MariaDB and
// PgBouncer from the packages of Debian, each in a temporary folder and on a free port of 127.0.0.1.
//
//	postgres, err := servers.StartPostgres(ctx)
//	if err != nil {
//		return err
//	}
//	defer postgres.Stop()
//	dsn, err := postgres.NewDatabase(ctx, "orders")
//	if err != nil {
//		return err
//	}
//	db, err := sql.Open(postgres.Driver(), dsn)
//
// Importing the package registers the drivers "pgx" and "mysql" with database/sql.
//
// A committed transaction is on disk: the servers run with fsync, as in production. Kill simulates a crash, and Restart
// starts the server again with the same data and port.
//
// If the environment variable AMQPKIT_POSTGRES or AMQPKIT_MARIADB holds a DSN, StartPostgres or StartMariaDB uses that
// server instead of starting one. Such a server cannot be killed or restarted.
//
// A server dies with the process that started it, even if that process is killed. The next start removes its folder. This
// needs Linux; on other systems only the servers from the environment variables can be used.
package servers
