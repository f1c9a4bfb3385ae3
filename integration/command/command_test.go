package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// A terminal runs the command.
type terminal struct {
	t   *testing.T
	url string
	in  string // the standard input of the next command
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	return &terminal{t: t, url: kit.Broker(t).URL()}
}

func (c *terminal) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(kit.Within(c.t, time.Minute), binary, args...)
	cmd.Env = append(os.Environ(), "AMQP_URL="+c.url, "AMQPKIT_CONFIG="+os.DevNull+".none")
	return cmd
}

// run runs the command and returns what the terminal shows, and the exit code.
func (c *terminal) run(args ...string) (shown string, code int) {
	c.t.Helper()
	cmd := c.command(args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.in), &out, &out
	c.in = ""
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// expect runs the command and compares the terminal and the exit code. QUEUE in want stands for the queue.
func (c *terminal) expect(queue string, code int, want string, args ...string) {
	c.t.Helper()
	want = strings.ReplaceAll(strings.TrimPrefix(want, "\n"), "QUEUE", queue)
	if got, exit := c.run(args...); got != want || exit != code {
		c.t.Errorf("$ amqpkit %s\n%s(exit code %d), want\n%s(exit code %d)", strings.Join(args, " "), got, exit, want, code)
	}
}

func declare(t *testing.T, args amqp.Table) string {
	t.Helper()
	name := kit.Unique("command")
	ch := kit.RawChannel(t)
	if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = kit.RawChannel(t).QueueDelete(name, false, false, false) })
	return name
}

func TestMessagesAreSentAndReceived(t *testing.T) {
	for kind, args := range map[string]amqp.Table{
		"classic": {"x-queue-type": "classic"},
		"quorum":  {"x-queue-type": "quorum"},
	} {
		t.Run(kind, func(t *testing.T) {
			c, q := newTerminal(t), declare(t, args)
			c.expect(q, 0, "2 messages confirmed\n", "send", "--queue", q, "--message-id", "m", "--header", "n:=5", "one", "two")
			c.expect(q, 4, `
message 1 (text 1): unroutable: no queue is bound to the default exchange for key "QUEUE-misspelt"
0 messages confirmed, 1 unroutable
`, "send", "--queue", q+"-misspelt", "one")
			c.expect(q, 0, `
message 1: key "QUEUE", id "m", headers {"n":"int64:5"}
one
`, "receive", "--ack", "--count", "1", q)
			c.expect(q, 0, `
{"body":"two","delivery_mode":"uint8:2","exchange":"","headers":{"n":"int64:5"},"key":"QUEUE","message_id":"m"}
`, "receive", "--ack", "--output", "json", q)
			c.expect(q, 0, "", "receive", "--ack", q)
		})
	}
}

func TestPeekKnowsTheTypeOfTheQueue(t *testing.T) {
	b := kit.Broker(t)
	at, unlimited := "RabbitMQ "+b.Version(), "quorum queue without a delivery limit: the messages are marked as redelivered"
	count := ", " + at + ": a message that was dead-lettered to this queue after it had reached a delivery limit may be dropped or dead-lettered when it is returned"
	if !b.AtLeast(4, 3) {
		unlimited = "quorum queue without a delivery limit, " + at + ": the messages move to the tail of the queue"
		count = ", " + at + ": each peek counts as a failed delivery, and RabbitMQ drops or dead-letters a message at the limit"
	}
	c := newTerminal(t)
	for _, test := range []struct {
		args    amqp.Table
		refused bool
		cost    string
	}{
		{amqp.Table{"x-queue-type": "classic"}, false, "classic queue: the messages are marked as redelivered and keep their order"},
		{amqp.Table{
			"x-queue-type": "classic", "x-max-length": 5, "x-dead-letter-exchange": "it's", "x-message-ttl": 600000, "x-expires": 600000, "x-overflow": "reject-publish",
			"x-single-active-consumer": false, "x-max-priority": 3,
		}, false, "classic queue: the messages are marked as redelivered and keep their order"},
		{amqp.Table{"x-queue-type": "quorum"}, true, "quorum queue with the default delivery limit of 20" + count},
		{amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 3, "x-dead-letter-exchange": "d", "x-message-ttl": 600000}, true, "quorum queue with a delivery limit of 3" + count},
		{amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": -1, "x-overflow": "reject-publish", "x-dead-letter-exchange": "d", "x-dead-letter-strategy": "at-least-once"}, false, unlimited},
	} {
		q := declare(t, test.args)
		c.expect(q, 0, "1 message confirmed\n", "send", "--queue", q, "--message-id", "m", "one")
		if test.refused {
			c.expect(q, 1, "amqpkit receive: queue \"QUEUE\" was not read: "+test.cost+"; add --force to peek all the same\n", "receive", "--peek", q)
		} else {
			c.expect(q, 0, "amqpkit receive: "+test.cost+"\nmessage 1: key \"QUEUE\", id \"m\"\none\n", "receive", "--peek", q)
		}
		if n := kit.Ready(t, q); n != 1 {
			t.Errorf("%v: %d messages after a peek", test.args, n)
		}
	}
	missing := kit.Unique("command")
	if got, code := c.run("receive", "--peek", missing); code != 1 || !strings.Contains(got, "NOT_FOUND") {
		t.Errorf("exit code %d, %s", code, got)
	}
}

func TestStreamIsReadFromAnOffset(t *testing.T) {
	c, q := newTerminal(t), declare(t, amqp.Table{"x-queue-type": "stream"})
	c.expect(q, 0, "3 messages confirmed\n", "send", "--queue", q, "--message-id", "m", "one", "two", "three")
	c.expect(q, 0, `
message 1: key "QUEUE", id "m", headers {"x-stream-offset":"int64:1"}
two
`, "receive", "--offset", "1", "--count", "1", q)
	for range 2 { // nothing is removed
		if got, code := c.run("receive", "--offset", "first", "--output", "json", q); code != 0 || strings.Count(got, "\n") != 3 {
			t.Errorf("exit code %d, %s", code, got)
		}
	}
}

func TestLargeQueueIsReceivedInOrderAndNothingIsLost(t *testing.T) {
	const n = 3000
	for kind, args := range map[string]amqp.Table{
		"classic": {"x-queue-type": "classic"},
		"quorum":  {"x-queue-type": "quorum"},
	} {
		t.Run(kind, func(t *testing.T) {
			c, q := newTerminal(t), declare(t, args)
			var lines strings.Builder
			for i := range n {
				fmt.Fprintln(&lines, i)
			}
			c.in = lines.String()
			c.expect(q, 0, "3,000 messages confirmed\n", "send", "--queue", q, "--lines")
			next := 0
			for _, flags := range [][]string{{"--count", "1"}, {"--count", "999"}, {"--count", "1000"}, nil} {
				got, code := c.run(append([]string{"receive", "--ack", q}, flags...)...)
				if code != 0 {
					t.Fatalf("exit code %d, %s", code, got)
				}
				for i, line := range strings.Split(strings.TrimSpace(got), "\n") {
					switch {
					case i%2 == 0 && strings.Contains(line, "redelivered"):
						t.Fatalf("%v: %s", flags, line)
					case i%2 == 0:
					case line != fmt.Sprint(next):
						t.Fatalf("%v: got %s, want %d", flags, line, next)
					default:
						next++
					}
				}
			}
			if left := kit.Ready(t, q); next != n || left != 0 {
				t.Errorf("received %d of %d, %d left", next, n, left)
			}
		})
	}
}

func TestInterruptEndsAFollowWithoutALoss(t *testing.T) {
	c, q := newTerminal(t), declare(t, amqp.Table{"x-queue-type": "quorum"})
	c.expect(q, 0, "1 message confirmed\n", "send", "--queue", q, "one")
	cmd := c.command("receive", "--ack", "--follow", q)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := out.Read(b); err != nil { // it was written, and is acknowledged afterwards
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = out.Read(b)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("exit code %d", cmd.ProcessState.ExitCode())
	}
	c.expect(q, 0, "", "receive", "--ack", q)
}

func TestClosedPipeLeavesTheMessages(t *testing.T) {
	c, q := newTerminal(t), declare(t, amqp.Table{"x-queue-type": "quorum"})
	c.expect(q, 0, "200 messages confirmed\n", "send", "--queue", q, "--count", "200", strings.Repeat("x", 10_000))
	cmd := c.command("receive", "--ack", q)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &shown
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Close(), r.Close()
	_ = cmd.Wait()
	if want := "amqpkit receive: the output was closed; the other messages stay in the queue\n"; shown.String() != want || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit code %d, %s", cmd.ProcessState.ExitCode(), shown.String())
	}
	kit.WaitFor(t, func() bool { return kit.Ready(t, q) == 200 })
}

func TestParkedMessagesAreManaged(t *testing.T) {
	c, orders := newTerminal(t), declare(t, amqp.Table{"x-queue-type": "quorum"})
	q := declare(t, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": -1, "x-overflow": "reject-publish"})
	for _, id := range []string{"m-1", "m-2", "m-3"} {
		c.expect(q, 0, "1 message confirmed\n", "send", "--queue", q, "--message-id", id, "--header", "x-amqpkit-queue="+orders, "--header", "x-amqpkit-reason=attempts",
			"--header", "x-amqpkit-attempts:=5", "--header", "x-amqpkit-last-failure=2026-11-30T09:15:00.000Z", "--header", "x-amqpkit-error=timeout", "body "+id)
	}
	pad := strings.Repeat(" ", len(orders)-len("ORIGIN"))
	c.expect(orders, 0, `
MESSAGE  ORIGIN`+pad+`  ATTEMPTS  LAST FAILURE          REASON    ERROR
m-1      QUEUE  5         2026-11-30 09:15:00Z  attempts  timeout
m-2      QUEUE  5         2026-11-30 09:15:00Z  attempts  timeout
m-3      QUEUE  5         2026-11-30 09:15:00Z  attempts  timeout
`, "parked", "list", q)
	file := t.TempDir() + "/parked.ndjson"
	c.expect(q, 0, "exported 1 message to "+file+"\n", "parked", "export", "--id", "m-3", q, file)
	c.expect(q, 0, "replayed 1 of 3 messages, 2 stay parked\n", "parked", "replay", "--id", "m-2", q)
	c.expect(q, 0, "discarded 1 of 2 messages, 1 stays parked\n", "parked", "discard", "--yes", "--limit", "1", q)
	c.expect(q, 0, "imported 1 message from "+file+"\n", "parked", "import", q, file)
	if parked, replayed := kit.Ready(t, q), kit.Ready(t, orders); parked != 2 || replayed != 1 {
		t.Errorf("%d parked, %d replayed", parked, replayed)
	}
}

func TestUserWithFewPermissions(t *testing.T) {
	b := kit.NeedsControl(t)
	c, q := newTerminal(t), declare(t, amqp.Table{"x-queue-type": "classic"})
	user := kit.Unique("reader")
	ctl := func(args ...string) {
		t.Helper()
		if out, err := b.Ctl(kit.Within(t, time.Minute), args...); err != nil {
			t.Fatal(err, out)
		}
	}
	ctl("add_user", user, "top-secret")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if out, err := b.Ctl(ctx, "delete_user", user); err != nil {
			t.Error(err, out)
		}
	})
	ctl("set_permissions", user, "^$", "^$", "^"+q+"$") // read only
	c.expect(q, 0, "2 messages confirmed\n", "send", "--queue", q, "--message-id", "m", "one", "two")
	admin := c.url
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, "top-secret")
	c.url = u.String()
	got, code := c.run("receive", "--peek", q)
	if code != 1 || !strings.Contains(got, "the type of the queue is unknown, because this user may not configure it") {
		t.Errorf("peek: exit code %d, %s", code, got)
	}
	c.expect(q, 0, "message 1: key \"QUEUE\", id \"m\"\none\n", "receive", "--ack", "--count", "1", q)
	got, code = c.run("send", "--queue", q, "three")
	if code != 1 || !strings.Contains(got, "ACCESS_REFUSED") || strings.Contains(got, "top-secret") {
		t.Errorf("send: exit code %d, %s", code, got)
	}
	u.User = url.UserPassword(user, "wrong-secret")
	c.url = u.String()
	got, code = c.run("receive", "--ack", q)
	if code != 1 || !strings.Contains(got, "login refused") || strings.Contains(got, "wrong-secret") {
		t.Errorf("login: exit code %d, %s", code, got)
	}
	c.url = admin
	c.expect(q, 0, "message 1: key \"QUEUE\", id \"m\"\ntwo\n", "receive", "--ack", q)
}
