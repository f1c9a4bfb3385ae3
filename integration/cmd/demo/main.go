// Command demo shows a message go through RabbitMQ: it brings up a broker if none is named by AMQP_URL,
// runs examples/hello/receive and examples/hello/send on it, and succeeds only if the message was received and
// acknowledged. The broker is left running; `demo -stop` ends it. Where there is neither Docker nor an installed
// rabbitmq-server, it says so and runs on package amqptest, which takes Go alone. Run it inside the module, as make demo
// does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

const (
	examples = "github.com/amqpkit/amqpkit/examples/hello/"
	queue    = "hello"

	waiting  = " [*] Waiting for messages. To exit press CTRL+C"
	sent     = ` [x] Sent "Hello World!"`
	received = ` [x] Received "Hello World!"`

	// runTimeout bounds everything after the broker is up, so that a demo never hangs.
	runTimeout = time.Minute
)

func main() {
	stop := flag.Bool("stop", false, "end the broker that an earlier demo left running")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	do := demo
	if *stop {
		do = stopBroker
	}
	if err := do(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // What is deferred is the handling of signals.
	}
}

func stopBroker(ctx context.Context, out io.Writer) error {
	ended, err := rabbit.StopKept(ctx)
	if err != nil {
		return err
	}
	if ended == "" {
		ended = "nothing: no demo broker is there"
	}
	fmt.Fprintln(out, "stopped", ended)
	return nil
}

func demo(ctx context.Context, out io.Writer) error {
	b, err := startBroker(ctx, out)
	if err != nil {
		return err
	}
	defer b.Close(ctx)
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	if err := converse(ctx, out, b); err != nil {
		err = fmt.Errorf("demo on %s: %w", b, err)
		if _, kept := b.(keptBroker); kept {
			err = fmt.Errorf("%w\nthe broker is left running; stop it with make demo-stop", err)
		}
		return err
	}
	b.farewell(out)
	return nil
}

// converse runs the receiver and the sender, and prints what each says of the message.
func converse(ctx context.Context, out io.Writer, b broker) error {
	dir, err := os.MkdirTemp("", "amqpkit-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", dir+string(filepath.Separator),
		examples+"receive", examples+"send")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the examples: %w", err)
	}

	receiver, err := start(ctx, filepath.Join(dir, "receive"), b.URL())
	if err != nil {
		return err
	}
	defer receiver.kill()
	if err := receiver.await(waiting); err != nil {
		return err
	}
	sender, err := start(ctx, filepath.Join(dir, "send"), b.URL())
	if err != nil {
		return err
	}
	defer sender.kill()
	if err := errors.Join(sender.await(sent), sender.wait()); err != nil {
		return err
	}
	fmt.Fprintln(out, sent)
	if err := receiver.await(received); err != nil {
		return err
	}
	fmt.Fprintln(out, received)

	// The queue may have held messages from before: the receiver gets to the end of it.
	go func() {
		for range receiver.lines { // so that it is never stopped by a full pipe
		}
	}()
	for n := 1; n > 0; {
		if n, err = b.left(ctx); err != nil {
			return err
		}
	}
	if err := receiver.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	if err := receiver.wait(); err != nil {
		return err
	}
	// Had it not acknowledged, the broker would have put back what it had.
	n, err := b.left(ctx)
	if err == nil && n > 0 {
		err = fmt.Errorf("queue %s holds %d messages again: they were received, but not acknowledged", queue, n)
	}
	return err
}

// program is an example that runs, with its output line by line.
type program struct {
	name  string
	cmd   *exec.Cmd
	lines <-chan string
	said  strings.Builder
}

func start(ctx context.Context, path, url string) (*program, error) {
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(os.Environ(), "AMQP_URL="+url)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &program{name: filepath.Base(path), cmd: cmd, lines: scan(stdout)}, nil
}

// await returns once the program prints the line.
func (p *program) await(line string) error {
	for got := range p.lines {
		fmt.Fprintln(&p.said, got)
		if got == line {
			return nil
		}
	}
	return fmt.Errorf("%s ended without printing %q; it said:\n%s", p.name, line, &p.said)
}

// wait returns nil once the program ended well.
func (p *program) wait() error {
	for got := range p.lines { // until its output ends: Wait would cut it off
		fmt.Fprintln(&p.said, got)
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// kill ends the program if it still runs.
func (p *program) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.wait()
	}
}
