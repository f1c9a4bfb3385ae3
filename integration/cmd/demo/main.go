// Command demo sends a message through RabbitMQ. It starts a broker unless AMQP_URL is set, runs examples/hello/receive
// and examples/hello/send on it, and succeeds only if the message was received and acknowledged. The broker is left
// running; demo -stop removes it. Without Docker and an installed rabbitmq-server, the demo runs on package amqptest,
// which only needs Go. Run it inside the module, as make demo does.
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

	// runTimeout limits the demo once the broker is running.
	runTimeout = time.Minute
)

func main() {
	stop := flag.Bool("stop", false, "remove the broker that an earlier demo left running")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	do := demo
	if *stop {
		do = stopBroker
	}
	if err := do(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // The deferred call only stops signal handling.
	}
}

func stopBroker(ctx context.Context, out io.Writer) error {
	stopped, err := rabbit.StopKept(ctx)
	if err != nil {
		return err
	}
	if stopped == "" {
		fmt.Fprintln(out, "no demo broker to stop")
		return nil
	}
	fmt.Fprintln(out, "stopped", stopped)
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
	if err := sendAndReceive(ctx, out, b); err != nil {
		err = fmt.Errorf("demo on %s: %w", b, err)
		if _, ok := b.(demoBroker); ok {
			err = fmt.Errorf("%w\nthe broker is left running; stop it with make demo-stop", err)
		}
		return err
	}
	b.printNextSteps(out)
	return nil
}

// sendAndReceive runs both examples and prints their lines about the message.
func sendAndReceive(ctx context.Context, out io.Writer, b broker) error {
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

	// The queue may contain older messages. Wait until the receiver has drained it.
	go func() {
		for range receiver.lines { // a full pipe would block the receiver
		}
	}()
	for n := 1; n > 0; {
		if n, err = b.messages(ctx); err != nil {
			return err
		}
	}
	if err := receiver.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	if err := receiver.wait(); err != nil {
		return err
	}
	// The broker has requeued any delivery that the receiver did not acknowledge.
	n, err := b.messages(ctx)
	if err == nil && n > 0 {
		err = fmt.Errorf("%d messages are back in queue %s: they were received but not acknowledged", n, queue)
	}
	return err
}

// program is a running example.
type program struct {
	name   string
	cmd    *exec.Cmd
	lines  <-chan string   // of standard output
	output strings.Builder // the lines received so far
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
		fmt.Fprintln(&p.output, got)
		if got == line {
			return nil
		}
	}
	return fmt.Errorf("%s exited without printing %q; its output:\n%s", p.name, line, &p.output)
}

// wait waits until the program exits. It returns an error unless the exit status is 0.
func (p *program) wait() error {
	for got := range p.lines { // to the end: Cmd.Wait closes the pipe
		fmt.Fprintln(&p.output, got)
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// kill kills the program if it is still running.
func (p *program) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.wait()
	}
}
