// Command demo shows a message go through RabbitMQ: it brings up a broker if none is named by AMQP_URL,
// runs examples/hello/receive and examples/hello/send on it, and succeeds only if the message was received and
// acknowledged. The broker is left running; `demo -stop` ends it. Run it inside the module, as make
// demo does.
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

	amqp "github.com/rabbitmq/amqp091-go"

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
	broker, err := rabbit.Start(ctx, rabbit.Options{Keep: true})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	if err := converse(ctx, out, broker.URL()); err != nil {
		return fmt.Errorf("demo on %s: %w", broker, err)
	}
	if err := expectEmpty(ctx, broker); err != nil {
		return fmt.Errorf("demo on %s: %w", broker, err)
	}
	if broker.Owned() {
		fmt.Fprintf(out, "\nBroker left running: %s\n", broker)
		fmt.Fprintf(out, "  try:     AMQP_URL=%s go run ./examples/hello/send\n", broker.URL())
		fmt.Fprintln(out, "  stop it: make demo-stop")
	}
	return nil
}

// converse runs the receiver and the sender, and prints what each says of the message.
func converse(ctx context.Context, out io.Writer, url string) error {
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

	receiver, err := start(ctx, filepath.Join(dir, "receive"), url)
	if err != nil {
		return err
	}
	defer receiver.kill()
	if err := receiver.await(waiting); err != nil {
		return err
	}
	sender, err := start(ctx, filepath.Join(dir, "send"), url)
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
	if err := receiver.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return receiver.wait()
}

// expectEmpty tells a received message from an acknowledged one: without the acknowledgement the broker would
// have put it back when the receiver ended.
func expectEmpty(ctx context.Context, b *rabbit.Broker) error {
	if b.Owned() {
		c, err := b.Queue(ctx, queue)
		if err != nil {
			return err
		}
		if c.Ready+c.Unacked != 0 {
			return fmt.Errorf("queue %s holds %d messages, %d of them unacknowledged", queue, c.Ready+c.Unacked, c.Unacked)
		}
		return nil
	}
	conn, err := amqp.DialConfig(b.URL(), amqp.Config{Dial: amqp.DefaultDial(10 * time.Second)})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.CloseDeadline(time.Now()) })()
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		return err
	}
	if q.Messages != 0 {
		return fmt.Errorf("queue %s still holds %d messages", queue, q.Messages)
	}
	return nil
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
