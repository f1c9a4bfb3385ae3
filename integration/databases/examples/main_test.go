package examples

import (
	"os"
	"testing"

	"github.com/amqpkit/amqpkit/integration/databases/internal/dbkit"
)

func TestMain(m *testing.M) { os.Exit(dbkit.Main(m)) }
