package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The first hello-world works with Go alone: no Docker, no RabbitMQ, and nothing is installed for it.
func TestWithGoAloneTheDemoRunsOnAmqptestAndSaysSo(t *testing.T) {
	demo := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", demo, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir() // the whole PATH
	if err := os.Symlink(goTool, filepath.Join(bin, "go")); err != nil {
		t.Fatal(err)
	}
	// Docker's socket and the package's own server are found without a PATH.
	env := append(os.Environ(), "PATH="+bin, "AMQP_URL=", "RABBITMQ_IMAGE=", "AMQPKIT_DOCKER=off", "AMQPKIT_SERVER=off")

	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), demo)
	cmd.Env, cmd.Stderr = env, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("demo: %v\n%s%s", err, out, &stderr)
	}
	rest := strings.Split(string(out), "\n")
	for _, want := range []string{
		"There is no RabbitMQ here, so this demo runs on amqptest", "in the demo's process, at 127.0.0.1:", "gone when the demo ends",
		sent, received, "Broker ended: amqptest", "sudo apt-get install rabbitmq-server", "AMQP_URL=",
	} { // in this order
		i := slices.IndexFunc(rest, func(line string) bool { return strings.Contains(line, want) })
		if i < 0 {
			t.Fatalf("it does not say %q where it should:\n%s", want, out)
		}
		rest = rest[i:]
	}
	if strings.Contains(string(out), "left running") {
		t.Errorf("it says that a broker is left running:\n%s", out)
	}

	// What the user names is taken, or is an error.
	cmd = exec.CommandContext(t.Context(), demo)
	cmd.Env = slices.Concat(env, []string{"AMQP_URL=amqp://guest:guest@127.0.0.1:1/"})
	if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "amqptest") {
		t.Errorf("on a broker that is not there the demo ends with %v:\n%s", err, out)
	}
}
