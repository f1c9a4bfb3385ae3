package kit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/producer"
)

// Within returns the test's context with a timeout, so that a hanging call fails with its location.
func Within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Unique returns a name that no other test uses.
func Unique(prefix string) string { return prefix + "-" + rand.Text()[:8] }

// Logger returns a logger that writes to the output of the test.
func Logger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Connect returns a Conn that is closed at the end of the test. By default it is connected to the shared broker.
func Connect(t *testing.T, cfg amqpkit.Config) *amqpkit.Conn {
	t.Helper()
	if len(cfg.URLs) == 0 {
		cfg.URLs = []string{Broker(t).URL()}
	}
	if cfg.Name == "" {
		cfg.Name = t.Name()
	}
	if cfg.Logger == nil {
		cfg.Logger = Logger(t)
	}
	conn, err := amqpkit.DialConfig(Within(t, 30*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := conn.Close(ctx); err != nil {
			t.Errorf("Conn.Close = %v", err)
		}
	})
	return conn
}

// StopsBeingReady waits until conn.Err is not nil. It returns false if ctx ends first.
func StopsBeingReady(ctx context.Context, conn *amqpkit.Conn) bool {
	for changed := conn.Changed(); conn.Err() == nil; changed = conn.Changed() {
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// RawChannel opens a channel of amqp091-go, for setup and checks.
func RawChannel(t *testing.T) *amqp.Channel {
	t.Helper()
	ac, err := amqp.Dial(Broker(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ac.Close() })
	ch, err := ac.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// QuorumQueue declares a quorum queue and returns its name.
func QuorumQueue(t *testing.T, args amqp.Table) string {
	t.Helper()
	if args == nil {
		args = amqp.Table{}
	}
	args["x-queue-type"] = "quorum"
	name := Unique(t.Name())
	ch := RawChannel(t)
	if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = RawChannel(t).QueueDelete(name, false, false, false) })
	return name
}

// NewProducer returns a Producer that is closed at the end of the test.
func NewProducer(t *testing.T, conn producer.Connection, cfg producer.Config) *producer.Producer {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = Logger(t)
	}
	p, err := producer.New(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = p.Close(ctx)
	})
	return p
}

// Take consumes and acknowledges n messages of a queue. It fails the test if the queue has fewer.
func Take(t *testing.T, queue string, n int) []amqp.Delivery {
	t.Helper()
	ch := RawChannel(t)
	if err := ch.Qos(1000, 0, false); err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := Within(t, 20*time.Second)
	got := make([]amqp.Delivery, 0, n)
	for len(got) < n {
		select {
		case d, ok := <-deliveries:
			if !ok {
				t.Fatalf("consuming from %s ended after %d of %d messages", queue, len(got), n)
			}
			if err := d.Ack(false); err != nil {
				t.Fatal(err)
			}
			got = append(got, d)
		case <-ctx.Done():
			t.Fatalf("%s held %d messages, want %d", queue, len(got), n)
		}
	}
	return got
}

// Ready returns the number of messages in a queue that are ready for delivery.
func Ready(t *testing.T, queue string) int {
	t.Helper()
	q, err := RawChannel(t).QueueDeclarePassive(queue, false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q.Messages
}

// WaitFor polls cond until it is true. It is for conditions that RabbitMQ sends no event for.
func WaitFor(t *testing.T, cond func() bool) {
	t.Helper()
	ctx := Within(t, 20*time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("condition not met within 20 s")
		}
	}
}

// ProgramTimeout bounds every wait for a program. With the race detector on a busy machine, the start of a program alone takes
// a second.
const ProgramTimeout = time.Minute

// A Program is a child process whose standard output is read line by line. It is killed at the end of the test if it still runs.
type Program struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	lines  chan string // closed at the end of the output
	pushed []string    // lines to be read again
	Stderr bytes.Buffer
	ended  chan struct{} // closed after err is set
	err    error
}

// StartProgram starts the program at path with the broker's URL in AMQP_URL. It is killed at the end of the test if it still runs.
func StartProgram(t *testing.T, url, name, path string, args ...string) *Program {
	t.Helper()
	p := &Program{t: t, name: name, lines: make(chan string, 100_000), ended: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), path, args...) // killed below
	p.cmd.Env = append(os.Environ(), "AMQP_URL="+url, "GORACE=atexit_sleep_ms=0")  // without it the race detector sleeps for a second at each exit
	p.cmd.Stderr = io.MultiWriter(&p.Stderr, t.Output())
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		s := bufio.NewScanner(out)
		for s.Scan() {
			p.lines <- s.Text()
		}
		close(p.lines)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// read returns the next line of the output. ok is false after the last one.
func (p *Program) read() (line string, ok bool) {
	p.t.Helper()
	if len(p.pushed) > 0 {
		line, p.pushed = p.pushed[0], p.pushed[1:]
		return line, true
	}
	timeout := time.NewTimer(ProgramTimeout)
	defer timeout.Stop()
	select {
	case line, ok = <-p.lines:
		return line, ok
	case <-timeout.C:
		p.t.Fatalf("%s printed no further line within %v", p.name, ProgramTimeout)
		return "", false
	}
}

// PushBack makes line the next line that Next returns.
func (p *Program) PushBack(line string) { p.pushed = append(p.pushed, line) }

// Next returns the next line of standard output. It fails the test if the program has exited.
func (p *Program) Next() string {
	p.t.Helper()
	line, ok := p.read()
	if !ok {
		<-p.ended
		p.t.Fatalf("%s exited (%v); standard error: %q", p.name, p.err, p.Stderr.String())
	}
	return line
}

// Expect fails the test unless the next line is want.
func (p *Program) Expect(want string) {
	p.t.Helper()
	if line := p.Next(); line != want {
		p.t.Fatalf("%s printed %q, want %q", p.name, line, want)
	}
}

// ExpectWords is Expect for a line with columns.
func (p *Program) ExpectWords(want string) {
	p.t.Helper()
	if line := strings.Join(strings.Fields(p.Next()), " "); line != want {
		p.t.Fatalf("%s printed %q, want %q", p.name, line, want)
	}
}

// ExpectAnyOrder fails the test unless the next lines are want, in any order.
func (p *Program) ExpectAnyOrder(want ...string) {
	p.t.Helper()
	var got []string
	for range want {
		got = append(got, p.Next())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		p.t.Fatalf("%s printed %q, want %q", p.name, got, want)
	}
}

// ExpectEnd fails the test if the program prints another line.
func (p *Program) ExpectEnd() {
	p.t.Helper()
	if line, ok := p.read(); ok {
		p.t.Fatalf("%s printed %q, want no more", p.name, line)
	}
}

// ExpectAll expects exactly these lines and the exit status 0.
func (p *Program) ExpectAll(want ...string) {
	p.t.Helper()
	for _, line := range want {
		p.Expect(line)
	}
	p.ExpectEnd()
	p.Exits(0)
}

// Signal sends SIGINT, as Ctrl-C does.
func (p *Program) Signal() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// Interrupt sends SIGINT and expects no further output and the exit status 0.
func (p *Program) Interrupt() {
	p.t.Helper()
	p.Signal()
	p.ExpectEnd()
	p.Exits(0)
}

// Exits waits for the end of the program and fails the test unless its exit status is code.
func (p *Program) Exits(code int) {
	p.t.Helper()
	timeout := time.NewTimer(ProgramTimeout)
	defer timeout.Stop()
	select {
	case <-p.ended:
	case <-timeout.C:
		p.t.Fatalf("%s did not exit within %v", p.name, ProgramTimeout)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("%s exited with status %d (%v), want %d; standard error: %q", p.name, got, p.err, code, p.Stderr.String())
	}
}

// Forget deletes a queue and exchanges, now and at the end of the test. The examples share their names.
func Forget(t *testing.T, queue string, exchanges ...string) {
	t.Helper()
	remove := func() {
		ch := RawChannel(t)
		if queue != "" {
			if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
				t.Error(err)
			}
		}
		for _, exchange := range exchanges {
			if err := ch.ExchangeDelete(exchange, false, false); err != nil {
				t.Error(err)
			}
		}
	}
	remove()
	t.Cleanup(remove)
}

// ExpectSettled expects an empty queue after its consumers have returned. Unacknowledged messages would be in the queue again.
func ExpectSettled(t *testing.T, queue string) {
	t.Helper()
	b := Broker(t)
	if !b.Owned() {
		if n := Ready(t, queue); n != 0 {
			t.Errorf("queue %s holds %d messages", queue, n)
		}
		return
	}
	err := b.AwaitQueue(Within(t, ProgramTimeout), queue, func(c rabbit.Counts) bool {
		return c.Ready == 0 && c.Unacked == 0 && c.Consumers == 0
	})
	if err != nil {
		t.Error(err)
	}
}

// AsIf returns a connection whose server properties have another version of RabbitMQ, for a Setup or Declare on a node that was not
// upgraded yet.
func AsIf(ac *amqp.Connection, version string) *amqp.Connection {
	old := &amqp.Connection{Properties: amqp.Table{"product": "RabbitMQ", "version": version}}
	old.Config = ac.Config
	return old
}

// Python is the interpreter for which Debian installs python3-pika. Another one that is first in PATH may lack it.
const Python = "/usr/bin/python3"

// The output of pika's scripts and of the examples.
const (
	PikaSent     = " [x] Sent 'Hello World!'"
	PikaReceived = " [x] Received b'Hello World!'"
	Sent         = ` [x] Sent "Hello World!"`
	Received     = ` [x] Received "Hello World!"`
	Waiting      = " [*] Waiting for messages. To exit press CTRL+C"
)

// SchedulingDelay measures how late this machine runs timers. stalled returns the longest delay since the call. Tests add it to
// their time limits.
func SchedulingDelay(t *testing.T) (stalled func() time.Duration) {
	t.Helper()
	var worst atomic.Int64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		last := time.Now()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				now := time.Now() // not the time of the tick, which is when it was due
				worst.Store(max(worst.Load(), int64(now.Sub(last)-5*time.Millisecond)))
				last = now
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
	return func() time.Duration { return time.Duration(max(worst.Load(), 0)) }
}
