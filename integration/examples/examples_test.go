package examples

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestExamplesRunAndShutDownClean(t *testing.T) {
	examples := buildExamples(t, "hello/send", "hello/receive", "workqueues/newtask", "workqueues/worker",
		"pubsub/emitlog", "pubsub/receivelogs", "routing/emit", "routing/receive", "topics/emit", "topics/receive",
		"rpc/server", "rpc/client", "confirms", "retry", "parking-and-replay")

	t.Run("hello", func(t *testing.T) {
		kit.Forget(t, "hello")
		receive := examples.start(t, "hello/receive")
		receive.Expect(" [*] Waiting for messages. To exit press CTRL+C")
		examples.start(t, "hello/send").ExpectAll(` [x] Sent "Hello World!"`)
		receive.Expect(` [x] Received "Hello World!"`)
		examples.start(t, "hello/send", "a", `"b"`).ExpectAll(` [x] Sent "a \"b\""`)
		receive.Expect(` [x] Received "a \"b\""`)
		receive.Interrupt()
		kit.ExpectSettled(t, "hello")
	})

	t.Run("hello/message waits for its receiver", func(t *testing.T) {
		kit.Forget(t, "hello")
		examples.start(t, "hello/send").ExpectAll(` [x] Sent "Hello World!"`)
		receive := examples.start(t, "hello/receive")
		receive.ExpectAnyOrder(" [*] Waiting for messages. To exit press CTRL+C", ` [x] Received "Hello World!"`)
		receive.Interrupt()
		kit.ExpectSettled(t, "hello")
	})

	t.Run("hello/says why it cannot", func(t *testing.T) {
		for _, name := range []string{"hello/send", "hello/receive"} {
			p := examples.startOn(t, "amqp://guest:secret@127.0.0.1:1/", name)
			p.ExpectEnd()
			p.Exits(1)
			if s := p.Stderr.String(); !strings.Contains(s, "connection refused") || strings.Contains(s, "secret") {
				t.Errorf("%s says %q, want the cause without the password", name, s)
			}
		}
	})

	t.Run("retry", func(t *testing.T) {
		for _, q := range []string{"", ".wait.500ms", ".wait.1s", ".wait.2s", ".parked"} {
			kit.Forget(t, "retry.orders"+q)
		}
		p := examples.start(t, "retry")
		var lines []string
		for line := p.Next(); line != "back: broken"; line = p.Next() {
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
		p.ExpectEnd()
		p.Exits(0)
	})

	t.Run("parking-and-replay", func(t *testing.T) {
		const name = "parking-and-replay"
		for _, q := range []string{"", ".wait.200ms", ".parked"} {
			kit.Forget(t, "parking.orders"+q)
		}
		file := filepath.Join(t.TempDir(), "parked.jsonl")
		examples.start(t, name, "park").ExpectAll("parked 4 orders in parking.orders.parked")
		p := examples.start(t, name, "list")
		p.ExpectWords("MESSAGE QUEUE ATTEMPTS LAST FAILURE REASON ERROR")
		var rows []string
		for range 4 {
			words := strings.Fields(p.Next())
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
		p.ExpectEnd()
		p.Exits(0)
		examples.start(t, name, "-error", "timeout", "-dry", "replay").ExpectAll("would replay 2 of 4 messages, 2 stay parked")
		examples.start(t, name, "-older", "1h", "replay").ExpectAll("replayed 0 of 4 messages, 4 stay parked")
		p = examples.start(t, name, "-error", "timeout", "-rate", "10", "replay")
		p.ExpectAll("replayed 2 of 4 messages, 2 stay parked")
		if s := withoutInfo(p.Stderr.String()); !strings.HasSuffix(s, "\r4 of 4 seen, 2 replayed \n") {
			t.Errorf("its progress was %q", s)
		}
		examples.start(t, name, "-file", file, "export").ExpectAll("exported 2 messages to " + file)
		examples.start(t, name, "-file", file, "import").ExpectAll("imported 2 messages from " + file)
		if back, parked := kit.Ready(t, "parking.orders"), kit.Ready(t, "parking.orders.parked"); back != 2 || parked != 4 {
			t.Errorf("%d are back and %d are parked, want 2 and, with the imported ones, 4", back, parked)
		}
		p = examples.start(t, name, "park") // the replayed ones are worked first
		p.ExpectAnyOrder("done: book", "done: lamp")
		p.ExpectAll("parked 4 orders in parking.orders.parked")
		for command, why := range map[string]string{"-queue=parking.missing list": "no queue 'parking.missing'", "forget": `unknown command "forget"`} {
			p := examples.start(t, name, strings.Fields(command)...)
			p.ExpectEnd()
			p.Exits(1)
			if s := p.Stderr.String(); !strings.Contains(s, why) {
				t.Errorf("%s: it said %q, want %q", command, s, why)
			}
		}
	})

	t.Run("workqueues", func(t *testing.T) {
		kit.Forget(t, "tasks")
		worker := examples.start(t, "workqueues/worker")
		worker.Expect(" [*] Waiting for tasks. To exit press CTRL+C")
		other := examples.start(t, "workqueues/worker")
		other.Expect(" [*] Waiting for tasks. To exit press CTRL+C")
		examples.start(t, "workqueues/newtask", "long", "..").ExpectAll(` [x] Sent "long .."`)
		examples.start(t, "workqueues/newtask", "short").ExpectAll(` [x] Sent "short"`)
		// The second task goes to the worker that is free, whichever that is.
		if line := worker.Next(); line != ` [x] Received "long .."` {
			worker, other = other, worker
			worker.Expect(` [x] Received "long .."`)
			other.PushBack(line)
		}
		other.Expect(` [x] Received "short"`)
		other.Expect(` [x] Done "short"`)
		other.Interrupt()
		worker.Signal() // in the middle of its task, which it finishes
		worker.Expect(` [x] Done "long .."`)
		worker.Exits(0)
		kit.ExpectSettled(t, "tasks")
	})

	t.Run("pubsub", func(t *testing.T) {
		kit.Forget(t, "", "logs")
		examples.start(t, "pubsub/emitlog", "for nobody").ExpectAll(` [x] Sent "for nobody"`)
		var listeners []*kit.Program
		for range 2 {
			p := examples.start(t, "pubsub/receivelogs")
			p.Expect(" [*] Waiting for logs. To exit press CTRL+C")
			listeners = append(listeners, p)
		}
		examples.start(t, "pubsub/emitlog").ExpectAll(` [x] Sent "info: Hello World!"`)
		for _, p := range listeners {
			p.Expect(" [x] info: Hello World!")
			p.Interrupt()
		}
	})

	t.Run("routing", func(t *testing.T) {
		kit.Forget(t, "", "logs.direct")
		receive := examples.start(t, "routing/receive", "warning", "error")
		receive.Expect(" [*] Waiting for logs. To exit press CTRL+C")
		examples.start(t, "routing/emit", "info", "all is well").ExpectAll(` [ ] No queue is bound for "info"`)
		examples.start(t, "routing/emit", "warning", "disk is nearly full").ExpectAll(` [x] Sent "warning": "disk is nearly full"`)
		receive.Expect(" [x] warning: disk is nearly full")
		examples.start(t, "routing/emit", "error", "disk is full").ExpectAll(` [x] Sent "error": "disk is full"`)
		receive.Expect(" [x] error: disk is full")
		receive.Interrupt()
	})

	t.Run("topics", func(t *testing.T) {
		kit.Forget(t, "", "logs.topic")
		receive := examples.start(t, "topics/receive", "kernel.*", "*.critical")
		receive.Expect(" [*] Waiting for logs. To exit press CTRL+C")
		for _, topic := range []string{"kernel.critical", "cron.info", "cron.critical", "kernel.info"} {
			examples.start(t, "topics/emit", topic, "a", "line").ExpectAll(` [x] Sent "` + topic + `": "a line"`)
		}
		for _, topic := range []string{"kernel.critical", "cron.critical", "kernel.info"} { // each once
			receive.Expect(" [x] " + topic + ": a line")
		}
		receive.Interrupt()
	})

	t.Run("rpc", func(t *testing.T) {
		kit.Forget(t, "rpc.fib")
		alone := examples.start(t, "rpc/client", "30")
		alone.Expect(" [x] Requesting fib(30)")
		alone.ExpectEnd()
		alone.Exits(1)
		if s := alone.Stderr.String(); !strings.Contains(s, `queue "rpc.fib" does not exist`) {
			t.Errorf("without a server the client says %q", s)
		}
		server := examples.start(t, "rpc/server")
		server.Expect(" [*] Waiting for requests. To exit press CTRL+C")
		for n, fib := range map[string]string{"30": "832040", "0": "0", "90": "2880067194370816120"} {
			examples.start(t, "rpc/client", n).ExpectAll(" [x] Requesting fib("+n+")", " [.] Got "+fib)
			server.Expect(" [.] fib(" + n + ")")
		}
		server.Interrupt()
		kit.ExpectSettled(t, "rpc.fib")
	})

	t.Run("confirms", func(t *testing.T) {
		kit.Forget(t, "confirms")
		kit.Forget(t, "confirms.full")
		p := examples.start(t, "confirms")
		for _, way := range []string{"single", "batch", "async"} {
			for _, n := range []string{"0", "1", "2"} {
				p.ExpectWords(way + " " + n + ": stored")
			}
		}
		p.ExpectWords(`misspelt: not stored: no queue is bound for routing key "confirmz"; fix the key or declare the queue`)
		p.ExpectWords("queue empty: stored")
		p.ExpectWords("queue full: rejected by the broker, here because the queue is full; publish it later or drop it")
		if line := p.Next(); !strings.HasPrefix(line, "too large:") || !strings.Contains(line, "never sent") {
			t.Errorf("it printed %q, want that the message was never sent", line)
		}
		p.ExpectEnd()
		p.Exits(0)
		if n := kit.Ready(t, "confirms"); n != 9 {
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
func (e examples) start(t *testing.T, name string, args ...string) *kit.Program {
	t.Helper()
	return e.startOn(t, kit.Broker(t).URL(), name, args...)
}

func (e examples) startOn(t *testing.T, url, name string, args ...string) *kit.Program {
	t.Helper()
	return kit.StartProgram(t, url, name, e.path(name), args...)
}

var info = regexp.MustCompile(`\d{4}/\d\d/\d\d \d\d:\d\d:\d\d INFO [^\n]*\n`)

// withoutInfo removes the log lines at Info from the standard error of a program.
func withoutInfo(text string) string { return info.ReplaceAllString(text, "") }
