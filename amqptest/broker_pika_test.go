//go:build unix

package amqptest_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/amqptest"
)

// python is Debian's interpreter, which has python3-pika. Another one first on PATH may not have it.
const python = "/usr/bin/python3"

// A script is a running tutorial of pika.
type script struct {
	t       *testing.T
	name    string
	process *os.Process
	lines   *bufio.Scanner
}

func startScript(t *testing.T, b *amqptest.Broker, name string, args ...string) *script {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // in case an expected line is not printed
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, python, append([]string{"-u", filepath.Join("testdata", "pika", name+".py")}, args...)...)
	cmd.Env = append(os.Environ(), "AMQP_URL="+b.URL())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &script{t, name, cmd.Process, bufio.NewScanner(out)}
}

func (s *script) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// expect compares the next lines.
func (s *script) expect(lines ...string) {
	s.t.Helper()
	for _, want := range lines {
		if !s.lines.Scan() || s.lines.Text() != want {
			s.t.Fatalf("%s prints %q, want %q", s.name, s.lines.Text(), want)
		}
	}
}

func TestPikaRunsItsTutorials(t *testing.T) {
	if err := exec.CommandContext(t.Context(), python, "-c", "import pika").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("pika is missing (%v): apt-get install -y --no-install-recommends python3-pika", err)
		}
		t.Skipf("pika is missing (%v): apt-get install -y --no-install-recommends python3-pika", err)
	}
	const waiting = " [*] Waiting for messages. To exit press CTRL+C"

	t.Run("hello", func(t *testing.T) {
		b := amqptest.Start(t)
		startScript(t, b, "send").expect(" [x] Sent 'Hello World!'")
		receive := startScript(t, b, "receive")
		receive.expect(waiting, " [x] Received b'Hello World!'")
		startScript(t, b, "send").expect(" [x] Sent 'Hello World!'")
		receive.expect(" [x] Received b'Hello World!'")
	})

	t.Run("work queues", func(t *testing.T) {
		b := amqptest.Start(t)
		consumers := func(n int) func() bool {
			return func() bool { q, _ := b.Queue("task_queue"); return q.Consumers == n }
		}
		slow := startScript(t, b, "worker")
		slow.expect(waiting)
		must(t, b.Await(t.Context(), consumers(1)))
		fast := startScript(t, b, "worker")
		fast.expect(waiting)
		must(t, b.Await(t.Context(), consumers(2)))
		task := func(name string) { t.Helper(); startScript(t, b, "new_task", name).expect(" [x] Sent " + name) }
		task("slow.")
		slow.expect(" [x] Received slow.")
		slow.signal(syscall.SIGSTOP)
		task("a")
		task("b") // round robin would choose the other one, but that is busy and has a prefetch of one
		fast.expect(" [x] Received a", " [x] Done", " [x] Received b", " [x] Done")
		slow.signal(syscall.SIGCONT)
		slow.expect(" [x] Done")
		must(t, b.AwaitIdle(t.Context()))
		if n := len(b.Published()); n != 3 {
			t.Errorf("%d tasks were published", n)
		}
	})

	t.Run("rpc", func(t *testing.T) {
		b := amqptest.Start(t)
		server := startScript(t, b, "rpc_server")
		server.expect(" [x] Awaiting RPC requests")
		startScript(t, b, "rpc_client").expect(" [x] Requesting fib(20)", " [.] Got 6765")
		server.expect(" [.] fib(20)")
	})
}
