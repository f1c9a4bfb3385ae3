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

// The demo needs neither Docker nor RabbitMQ, and does not install them.
func TestDemoRunsOnAmqptestIfOnlyGoIsInstalled(t *testing.T) {
	demo := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", demo, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir() // the only directory in PATH
	if err := os.Symlink(goTool, filepath.Join(bin, "go")); err != nil {
		t.Fatal(err)
	}
	// Docker's socket and the Debian package's server are found without PATH.
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
		"No RabbitMQ is available, so this demo runs on amqptest", "inside the demo process at 127.0.0.1:", "stops with the demo",
		sent, received, "Broker stopped: amqptest", "sudo apt-get install rabbitmq-server", "AMQP_URL=",
	} { // in this order
		i := slices.IndexFunc(rest, func(line string) bool { return strings.Contains(line, want) })
		if i < 0 {
			t.Fatalf("output does not contain %q in the expected place:\n%s", want, out)
		}
		rest = rest[i:]
	}
	if strings.Contains(string(out), "left running") {
		t.Errorf("output claims that a broker is left running:\n%s", out)
	}

	// The demo does not replace a broker that the user set.
	cmd = exec.CommandContext(t.Context(), demo)
	cmd.Env = slices.Concat(env, []string{"AMQP_URL=amqp://guest:guest@127.0.0.1:1/"})
	if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "amqptest") {
		t.Errorf("demo on an unreachable broker = %v, want an error:\n%s", err, out)
	}
}
