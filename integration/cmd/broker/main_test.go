package main

import (
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/amqptest"
)

func TestSkippedTestsAndTheExitStatusOfTheCommandAreReported(t *testing.T) {
	t.Setenv("AMQP_URL", amqptest.Start(t, amqptest.Config{}).URL())
	var stderr strings.Builder
	err := run(t.Context(), 2, []string{"sh", "-c", `printf 'TestB (why)\nTestA (why)\n' >>"$AMQPKIT_SKIPPED"; exit 3`}, io.Discard, &stderr)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("run = %v, want exit status 3", err)
	}
	if out := stderr.String(); !strings.HasPrefix(out, "testing on RabbitMQ ") || !strings.HasSuffix(out, ": TestA (why), TestB (why)\n") {
		t.Errorf("printed %q, want the broker and the skipped tests", out)
	}
}
