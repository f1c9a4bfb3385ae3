package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/databases/soak"
)

// The worker processes are this program.
func TestMain(m *testing.M) {
	if soak.IsWorker() {
		os.Exit(soak.Work())
	}
	goleak.VerifyTestMain(m)
}

// Users' scripts and CI parse the last line.
func TestAShortRunPrintsOneLineWithTheVerdict(t *testing.T) {
	t.Setenv("AMQP_URL", amqptest.Start(t).URL())
	var stdout bytes.Buffer
	verdict, err := run(t.Context(), []string{"-database", soak.SQLite, "-duration", "5s", "-seed", "1", "-dir", t.TempDir()}, &stdout, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	var line soak.Result
	if err := json.Unmarshal(stdout.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, &stdout)
	}
	if verdict != line.Verdict || strings.Count(stdout.String(), "\n") != 1 {
		t.Errorf("run = %q, want the verdict of one line:\n%s", verdict, &stdout)
	}
	if line.Verdict != soak.Valid || line.Applied == 0 || line.Faults < 7 {
		t.Errorf("%s: %q", &stdout, line.Reasons)
	}
}

func TestInvalidArgumentsAreRejected(t *testing.T) {
	for _, args := range [][]string{{"-database", "oracle"}, {"-duration", "1ms"}, {"-drain", "0s"}, {"-faults", "flood"}, {"-nonsense"}} {
		var stdout bytes.Buffer
		if verdict, err := run(t.Context(), append(args, "-dir", t.TempDir()), &stdout, t.Output()); err == nil || verdict != "" || stdout.Len() > 0 {
			t.Errorf("run(%q) = %q, %v and output %q, want an error", args, verdict, err, &stdout)
		}
	}
}
