package rabbit_test

import (
	"os"
	"testing"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestMain(m *testing.M) { os.Exit(kit.Main(m)) }
