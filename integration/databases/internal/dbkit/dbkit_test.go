package dbkit_test

import (
	"database/sql"
	"os"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/databases/internal/dbkit"
	"github.com/amqpkit/amqpkit/integration/databases/servers"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestMain(m *testing.M) { os.Exit(dbkit.Main(m)) }

func TestDatabasesAndRabbitMQAreAvailableTogether(t *testing.T) {
	ch := kit.Channel(t, kit.Dial(t, kit.Broker(t), t.Name()))
	for _, get := range []func(*testing.T) *servers.Server{dbkit.Postgres, dbkit.MariaDB} {
		server := get(t)
		if again := get(t); again != server {
			t.Error("the second call returned another server")
		}
		dsn, err := server.NewDatabase(t.Context(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open(server.Driver(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.PingContext(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := ch.QueueDeclare(server.Driver(), false, true, true, false, amqp.Table{}); err != nil {
			t.Error(err)
		}
	}
}
