package integration

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// programPatience bounds every wait for a program: with the race detector on a busy machine, starting one
// takes a second.
const programPatience = time.Minute

func TestExamplesRunAndShutDownClean(t *testing.T) {
	examples := buildExamples(t, "hello/send", "hello/receive", "workqueues/newtask", "workqueues/worker",
		"pubsub/emitlog", "pubsub/receivelogs", "routing/emit", "routing/receive", "topics/emit", "topics/receive",
		"rpc/server", "rpc/client", "confirms", "retry", "parking-and-replay")

	t.Run("hello", func(t *testing.T) {
		forget(t, "hello")
		receive := examples.start(t, "hello/receive")
		receive.expect(" [*] Waiting for messages. To exit press CTRL+C")
		examples.start(t, "hello/send").expectAll(` [x] Sent "Hello World!"`)
		receive.expect(` [x] Received "Hello World!"`)
		examples.start(t, "hello/send", "a", `"b"`).expectAll(` [x] Sent "a \"b\""`)
		receive.expect(` [x] Received "a \"b\""`)
		receive.interrupt()
		expectSettled(t, "hello")
	})

	t.Run("hello/message waits for its receiver", func(t *testing.T) {
		forget(t, "hello")
		examples.start(t, "hello/send").expectAll(` [x] Sent "Hello World!"`)
		receive := examples.start(t, "hello/receive")
		receive.expectAnyOrder(" [*] Waiting for messages. To exit press CTRL+C", ` [x] Received "Hello World!"`)
		receive.interrupt()
		expectSettled(t, "hello")
	})

	t.Run("hello/says why it cannot", func(t *testing.T) {
		for _, name := range []string{"hello/send", "hello/receive"} {
			p := examples.startOn(t, "amqp://guest:secret@127.0.0.1:1/", name)
			p.expectEnd()
			p.exits(1)
			if s := p.stderr.String(); !strings.Contains(s, "connection refused") || strings.Contains(s, "secret") {
				t.Errorf("%s says %q, want the cause without the password", name, s)
			}
		}
	})

	t.Run("retry", func(t *testing.T) {
		for _, q := range []string{"", ".wait.500ms", ".wait.1s", ".wait.2s", ".parked"} {
			forget(t, "retry.orders"+q)
		}
		p := examples.start(t, "retry")
		var lines []string
		for line := p.next(); line != "back: broken"; line = p.next() {
			lines = append(lines, line)
		}
		for _, want := range []string{
			"good, attempt 1: <nil>", "heals, attempt 2: connection refused", "heals, attempt 3: <nil>", "busy, attempt 1: order busy: the warehouse is busy",
			"busy, attempt 2: <nil>", "broken, attempt 1: it has no address", "parked broken after 1 attempt: it has no address (permanent)", "replayed 1 of 1",
		} {
			if !slices.Contains(lines, want) {
				t.Errorf("it did not say %q but %q", want, lines)
			}
		}
		p.expectEnd()
		p.exits(0)
	})

	t.Run("parking-and-replay", func(t *testing.T) {
		const name = "parking-and-replay"
		for _, q := range []string{"", ".wait.200ms", ".parked"} {
			forget(t, "parking.orders"+q)
		}
		file := filepath.Join(t.TempDir(), "parked.jsonl")
		examples.start(t, name, "park").expectAll("parked 4 orders in parking.orders.parked")
		p := examples.start(t, name, "list")
		p.expectWords("MESSAGE QUEUE ATTEMPTS LAST FAILURE REASON ERROR")
		var rows []string
		for range 4 {
			words := strings.Fields(p.next())
			if len(words) != 8 {
				t.Fatalf("listed %q", words)
			}
			rows = append(rows, strings.Join(slices.Delete(words, 3, 5), " ")) // without the time
		}
		slices.Sort(rows)
		if want := []string{
			`book parking.orders 2 attempts "payment timeout"`, `chair parking.orders 1 permanent "no address"`,
			`lamp parking.orders 2 attempts "payment timeout"`, `table parking.orders 1 permanent "no address"`,
		}; !slices.Equal(rows, want) {
			t.Errorf("listed %q, want %q", rows, want)
		}
		p.expectEnd()
		p.exits(0)
		examples.start(t, name, "-error", "timeout", "-dry", "replay").expectAll("would replay 2 of 4 messages, 2 stay parked")
		examples.start(t, name, "-older", "1h", "replay").expectAll("replayed 0 of 4 messages, 4 stay parked")
		p = examples.start(t, name, "-error", "timeout", "-rate", "10", "replay")
		p.expectAll("replayed 2 of 4 messages, 2 stay parked")
		if s := p.stderr.String(); !strings.HasSuffix(s, "\r4 of 4 seen, 2 replayed \n") {
			t.Errorf("its progress was %q", s)
		}
		examples.start(t, name, "-file", file, "export").expectAll("exported 2 messages to " + file)
		examples.start(t, name, "-file", file, "import").expectAll("imported 2 messages from " + file)
		if back, parked := ready(t, "parking.orders"), ready(t, "parking.orders.parked"); back != 2 || parked != 4 {
			t.Errorf("%d are back and %d are parked, want 2 and, with the imported ones, 4", back, parked)
		}
		p = examples.start(t, name, "park") // the replayed ones are worked first
		p.expectAnyOrder("done: book", "done: lamp")
		p.expectAll("parked 4 orders in parking.orders.parked")
		for command, why := range map[string]string{"-queue=parking.missing list": "no queue 'parking.missing'", "forget": `unknown command "forget"`} {
			p := examples.start(t, name, strings.Fields(command)...)
			p.expectEnd()
			p.exits(1)
			if s := p.stderr.String(); !strings.Contains(s, why) {
				t.Errorf("%s: it said %q, want %q", command, s, why)
			}
		}
	})

	t.Run("workqueues", func(t *testing.T) {
		forget(t, "tasks")
		worker := examples.start(t, "workqueues/worker")
		worker.expect(" [*] Waiting for tasks. To exit press CTRL+C")
		other := examples.start(t, "workqueues/worker")
		other.expect(" [*] Waiting for tasks. To exit press CTRL+C")
		examples.start(t, "workqueues/newtask", "long", "..").expectAll(` [x] Sent "long .."`)
		examples.start(t, "workqueues/newtask", "short").expectAll(` [x] Sent "short"`)
		// The second task goes to the worker that is free, whichever that is.
		if line := worker.next(); line != ` [x] Received "long .."` {
			worker, other = other, worker
			worker.expect(` [x] Received "long .."`)
			other.pushBack(line)
		}
		other.expect(` [x] Received "short"`)
		other.expect(` [x] Done "short"`)
		other.interrupt()
		worker.signal() // in the middle of its task, which it finishes
		worker.expect(` [x] Done "long .."`)
		worker.exits(0)
		expectSettled(t, "tasks")
	})

	t.Run("pubsub", func(t *testing.T) {
		forget(t, "", "logs")
		examples.start(t, "pubsub/emitlog", "for nobody").expectAll(` [x] Sent "for nobody"`)
		var listeners []*program
		for range 2 {
			p := examples.start(t, "pubsub/receivelogs")
			p.expect(" [*] Waiting for logs. To exit press CTRL+C")
			listeners = append(listeners, p)
		}
		examples.start(t, "pubsub/emitlog").expectAll(` [x] Sent "info: Hello World!"`)
		for _, p := range listeners {
			p.expect(" [x] info: Hello World!")
			p.interrupt()
		}
	})

	t.Run("routing", func(t *testing.T) {
		forget(t, "", "logs.direct")
		receive := examples.start(t, "routing/receive", "warning", "error")
		receive.expect(" [*] Waiting for logs. To exit press CTRL+C")
		examples.start(t, "routing/emit", "info", "all is well").expectAll(` [ ] No queue is bound for "info"`)
		examples.start(t, "routing/emit", "warning", "disk is nearly full").expectAll(` [x] Sent "warning": "disk is nearly full"`)
		receive.expect(" [x] warning: disk is nearly full")
		examples.start(t, "routing/emit", "error", "disk is full").expectAll(` [x] Sent "error": "disk is full"`)
		receive.expect(" [x] error: disk is full")
		receive.interrupt()
	})

	t.Run("topics", func(t *testing.T) {
		forget(t, "", "logs.topic")
		receive := examples.start(t, "topics/receive", "kernel.*", "*.critical")
		receive.expect(" [*] Waiting for logs. To exit press CTRL+C")
		for _, topic := range []string{"kernel.critical", "cron.info", "cron.critical", "kernel.info"} {
			examples.start(t, "topics/emit", topic, "a", "line").expectAll(` [x] Sent "` + topic + `": "a line"`)
		}
		for _, topic := range []string{"kernel.critical", "cron.critical", "kernel.info"} { // each once
			receive.expect(" [x] " + topic + ": a line")
		}
		receive.interrupt()
	})

	t.Run("rpc", func(t *testing.T) {
		forget(t, "rpc.fib")
		alone := examples.start(t, "rpc/client", "30")
		alone.expect(" [x] Requesting fib(30)")
		alone.expectEnd()
		alone.exits(1)
		if s := alone.stderr.String(); !strings.Contains(s, `queue "rpc.fib" does not exist`) {
			t.Errorf("without a server the client says %q", s)
		}
		server := examples.start(t, "rpc/server")
		server.expect(" [*] Waiting for requests. To exit press CTRL+C")
		for n, fib := range map[string]string{"30": "832040", "0": "0", "90": "2880067194370816120"} {
			examples.start(t, "rpc/client", n).expectAll(" [x] Requesting fib("+n+")", " [.] Got "+fib)
			server.expect(" [.] fib(" + n + ")")
		}
		server.interrupt()
		expectSettled(t, "rpc.fib")
	})

	t.Run("confirms", func(t *testing.T) {
		forget(t, "confirms")
		forget(t, "confirms.full")
		p := examples.start(t, "confirms")
		for _, way := range []string{"single", "batch", "async"} {
			for _, n := range []string{"0", "1", "2"} {
				p.expectWords(way + " " + n + ": stored")
			}
		}
		p.expectWords(`misspelt: not stored: no queue is bound for routing key "confirmz"; fix the key or declare the queue`)
		p.expectWords("queue empty: stored")
		p.expectWords("queue full: rejected by the broker, here because the queue is full; publish it later or drop it")
		if line := p.next(); !strings.HasPrefix(line, "too large:") || !strings.Contains(line, "never sent") {
			t.Errorf("it printed %q, want that the message was never sent", line)
		}
		p.expectEnd()
		p.exits(0)
		if n := ready(t, "confirms"); n != 9 {
			t.Errorf("the queue holds %d messages, want the 9 that were stored", n)
		}
	})
}

// Built examples: a directory with one binary each.
type examples struct{ dir string }

// buildExamples builds programs of examples/, with the race detector where the test has it.
func buildExamples(t *testing.T, names ...string) examples {
	t.Helper()
	e := examples{t.TempDir()}
	flags := []string{"build", "-buildvcs=false"}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		flags = append(flags, "-race")
	}
	for _, name := range names {
		args := slices.Concat(flags, []string{"-o", e.path(name), "github.com/amqpkit/amqpkit/examples/" + name})
		if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return e
}

func (e examples) path(name string) string {
	return filepath.Join(e.dir, strings.ReplaceAll(name, "/", "-"))
}

// start runs an example on the shared broker.
func (e examples) start(t *testing.T, name string, args ...string) *program {
	t.Helper()
	return e.startOn(t, broker(t).URL(), name, args...)
}

func (e examples) startOn(t *testing.T, url, name string, args ...string) *program {
	t.Helper()
	return startProgram(t, url, name, e.path(name), args...)
}

// A program is a child process whose standard output is read line by line. It is killed at the end of the
// test if it is still there.
type program struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	lines  chan string // closed at the end of its output
	pushed []string    // lines to be read again
	stderr bytes.Buffer
	ended  chan struct{} // closed when err is there
	err    error
}

func startProgram(t *testing.T, url, name, path string, args ...string) *program {
	t.Helper()
	p := &program{t: t, name: name, lines: make(chan string, 100_000), ended: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), path, args...) // ended below
	p.cmd.Env = append(os.Environ(), "AMQP_URL="+url, "GORACE=atexit_sleep_ms=0")  // no second of sleep at each exit
	p.cmd.Stderr = io.MultiWriter(&p.stderr, t.Output())
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

// read returns the next line of its output; ok is false at the end.
func (p *program) read() (line string, ok bool) {
	p.t.Helper()
	if len(p.pushed) > 0 {
		line, p.pushed = p.pushed[0], p.pushed[1:]
		return line, true
	}
	patience := time.NewTimer(programPatience)
	defer patience.Stop()
	select {
	case line, ok = <-p.lines:
		return line, ok
	case <-patience.C:
		p.t.Fatalf("%s printed nothing more in %v", p.name, programPatience)
		return "", false
	}
}

func (p *program) pushBack(line string) { p.pushed = append(p.pushed, line) }

func (p *program) next() string {
	p.t.Helper()
	line, ok := p.read()
	if !ok {
		<-p.ended
		p.t.Fatalf("%s ended (%v), saying %q", p.name, p.err, p.stderr.String())
	}
	return line
}

func (p *program) expect(want string) {
	p.t.Helper()
	if line := p.next(); line != want {
		p.t.Fatalf("%s printed %q, want %q", p.name, line, want)
	}
}

// expectWords is expect for a line with columns.
func (p *program) expectWords(want string) {
	p.t.Helper()
	if line := strings.Join(strings.Fields(p.next()), " "); line != want {
		p.t.Fatalf("%s printed %q, want %q", p.name, line, want)
	}
}

func (p *program) expectAnyOrder(want ...string) {
	p.t.Helper()
	var got []string
	for range want {
		got = append(got, p.next())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		p.t.Fatalf("%s printed %q, want %q", p.name, got, want)
	}
}

func (p *program) expectEnd() {
	p.t.Helper()
	if line, ok := p.read(); ok {
		p.t.Fatalf("%s printed %q, want no more", p.name, line)
	}
}

// expectAll expects these lines, nothing more, and that it succeeds.
func (p *program) expectAll(want ...string) {
	p.t.Helper()
	for _, line := range want {
		p.expect(line)
	}
	p.expectEnd()
	p.exits(0)
}

// signal is a Ctrl-C.
func (p *program) signal() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// interrupt is a Ctrl-C after which it ends well, and prints nothing more.
func (p *program) interrupt() {
	p.t.Helper()
	p.signal()
	p.expectEnd()
	p.exits(0)
}

func (p *program) exits(code int) {
	p.t.Helper()
	patience := time.NewTimer(programPatience)
	defer patience.Stop()
	select {
	case <-p.ended:
	case <-patience.C:
		p.t.Fatalf("%s did not end in %v", p.name, programPatience)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("%s ended with %d (%v), want %d; it said %q", p.name, got, p.err, code, p.stderr.String())
	}
}

// forget deletes a queue and exchanges whose names the examples have in common, now and at the end of the
// test.
func forget(t *testing.T, queue string, exchanges ...string) {
	t.Helper()
	remove := func() {
		ch := rawChannel(t)
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

// expectSettled expects that nothing is left in a queue whose consumers have ended: what they did not
// acknowledge would be back.
func expectSettled(t *testing.T, queue string) {
	t.Helper()
	b := broker(t)
	if !b.Owned() {
		if n := ready(t, queue); n != 0 {
			t.Errorf("queue %s holds %d messages", queue, n)
		}
		return
	}
	err := b.AwaitQueue(within(t, programPatience), queue, func(c rabbit.Counts) bool {
		return c.Ready == 0 && c.Unacked == 0 && c.Consumers == 0
	})
	if err != nil {
		t.Error(err)
	}
}
