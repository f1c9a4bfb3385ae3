package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// binary is the command under test.
var binary string

func TestMain(m *testing.M) { os.Exit(start(m)) }

func start(m *testing.M) int {
	dir, err := os.MkdirTemp("", "amqpkit-command-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "amqpkit")
	build := exec.Command("go", "build", "-o", binary, "github.com/amqpkit/amqpkit/cmd/amqpkit")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return kit.Main(m)
}
