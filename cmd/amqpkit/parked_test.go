package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/parking"
)

func TestFilterSelectsByEveryFlag(t *testing.T) {
	m := parking.Message{
		Publishing: amqp.Publishing{MessageId: "m-1", Headers: amqp.Table{"tenant": "acme", "n": int64(5)}},
		Queue:      "orders", Reason: "attempts", Error: "payment timeout", LastFailure: time.Now().Add(-time.Hour),
	}
	for name, c := range map[string]struct {
		f    filter
		want bool
	}{
		"all":           {filter{}, true},
		"reason":        {filter{reason: "attempts"}, true},
		"other reason":  {filter{reason: "permanent"}, false},
		"origin":        {filter{origin: "orders"}, true},
		"other origin":  {filter{origin: "order"}, false},
		"id":            {filter{id: "m-1"}, true},
		"other id":      {filter{id: "m"}, false},
		"error":         {filter{text: "timeout"}, true},
		"other error":   {filter{text: "Timeout"}, false},
		"older":         {filter{older: time.Minute}, true},
		"not older":     {filter{older: 2 * time.Hour}, false},
		"headers":       {filter{headers: map[string]string{"tenant": "acme", "n": "5"}}, true},
		"other header":  {filter{headers: map[string]string{"tenant": "acme", "n": "6"}}, false},
		"no header":     {filter{headers: map[string]string{"missing": ""}}, false},
		"one of two":    {filter{id: "m-1", reason: "expired"}, false},
		"both of two":   {filter{id: "m-1", reason: "attempts"}, true},
		"all but error": {filter{id: "m-1", reason: "attempts", text: "x"}, false},
	} {
		if got := c.f.match(m); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if (filter{older: time.Nanosecond}).match(parking.Message{}) {
		t.Error("a message without a time of failure is older")
	}
}

func TestReplayMovesSelectedMessages(t *testing.T) {
	s := newShell(t)
	s.park()
	s.publish("orders.parked", amqptest.Message{MessageID: "unknown", Body: []byte("lost")})
	s.expect("amqpkit parked replay --dry-run orders.parked", 0, "would replay 2 of 3 messages, 1 stays parked\n")
	if s.bodies("orders") != "" {
		t.Errorf("a dry run published %s", s.bodies("orders"))
	}
	s.expect("amqpkit parked replay --header tenant=acme --output json orders.parked", 0,
		`{"dry_run":false,"kept":2,"replayed":1,"skipped":0,"total":3}`+"\n")
	s.expect("amqpkit parked replay --to orders --limit 1 --reason permanent orders.parked", 0, "replayed 1 of 2 messages, 1 stays parked\n")
	if got := s.bodies("orders"); got != `{"id":"7"} {"id":"8"}` {
		t.Errorf("replayed %s", got)
	}
	s.expect("amqpkit parked replay --to missing orders.parked", 4, `
replayed 0 of 1 message, 1 stays parked
amqpkit parked replay: 1 messages were skipped: message "unknown" stays parked: returned: 312 NO_ROUTE: no queue is bound to the default exchange for key "missing"
`)
}

func TestListShowsALimitedNumberOfMessages(t *testing.T) {
	s := newShell(t)
	s.park()
	s.expect("amqpkit parked list --limit 1 orders.parked", 0, `
MESSAGE  ORIGIN  ATTEMPTS  LAST FAILURE          REASON    ERROR
m-1      orders  5         2026-11-30 09:15:00Z  attempts  payment timeout
amqpkit parked list: there are more messages; --limit N lists N of them
`)
	s.expect("amqpkit parked list --id none orders.parked", 0, "amqpkit parked list: no message is selected\n")
	s.expect("amqpkit parked show orders.parked none", 1,
		"amqpkit parked show: queue \"orders.parked\" has no message with the id \"none\"; amqpkit parked list shows the ids\n")
	s.publish("orders.parked", amqptest.Message{MessageID: "\x1b[2J\tid", Body: []byte("x")})
	if got := s.run("amqpkit parked list orders.parked"); strings.ContainsAny(got, "\x1b\t") || !strings.Contains(got, `\x1b[2J\tid`) {
		t.Errorf("list printed %q", got)
	}
}

func TestExportedMessagesCanBeImportedAndSent(t *testing.T) {
	s := newShell(t)
	s.park()
	s.queue("again", nil)
	s.expect("amqpkit parked export --reason attempts orders.parked one.ndjson", 0, "exported 1 message to one.ndjson\n")
	s.expect("amqpkit parked export --dry-run orders.parked two.ndjson", 0, "would export 2 messages to two.ndjson\n")
	s.expect("amqpkit parked export orders.parked one.ndjson", 1, "amqpkit parked export: one.ndjson exists; remove it, or choose another file\n")
	s.expect("amqpkit parked import --dry-run orders.parked one.ndjson", 0, "would import 1 message from one.ndjson\n")
	s.expect("amqpkit parked import orders.parked one.ndjson", 0, "imported 1 message from one.ndjson\n")
	s.expect("amqpkit send --ndjson --queue again < one.ndjson", 0, "1 message confirmed\n")
	s.expect("amqpkit parked export orders.parked - | wc -l", 0, "3\n")
	s.expect("amqpkit parked import missing one.ndjson", 1,
		"amqpkit parked import: Exception (404) Reason: \"NOT_FOUND - no queue 'missing' in vhost '/'\"; check the name and the virtual host of the URL\n")
	s.write("bad.ndjson", "{\"body\":\"x\"}\n{\"wrong\":1}\n")
	s.expect("amqpkit parked import orders.parked bad.ndjson", 1, `
imported 1 message from bad.ndjson
amqpkit parked import: import line 2: unknown field "wrong"
`)
	if got := s.bodies("orders.parked"); got != `{"id":"7"} {"id":"8"} {"id":"7"} x` {
		t.Errorf("parked %s", got)
	}
	if _, err := os.Stat(s.path("two.ndjson")); err == nil {
		t.Error("a dry run wrote a file")
	}
}

func TestFailedExportLeavesNoFile(t *testing.T) {
	s := newShell(t)
	s.expect("amqpkit parked export missing one.ndjson", 1,
		"amqpkit parked export: Exception (404) Reason: \"NOT_FOUND - no queue 'missing' in vhost '/'\"; check the name and the virtual host of the URL\n")
	s.park()
	s.write("one.ndjson.part", "of a command that was killed")
	s.expect("amqpkit parked export orders.parked one.ndjson", 1,
		"amqpkit parked export: one.ndjson.part exists, from a command that runs or was killed; it may hold the only copy of messages: move it\n")
	if got := string(s.read("one.ndjson.part")); got != "of a command that was killed" {
		t.Errorf("the file was changed: %s", got)
	}
}

func TestDiscardAsksOnATerminal(t *testing.T) {
	for answer, code := range map[string]int{"y\n": 0, "yes\n": 0, "n\n": 1, "": 1, "maybe\n": 1} {
		s := newShell(t)
		s.park()
		var out screen
		in := &typed{Reader: strings.NewReader(answer)}
		got := run(t.Context(), []string{"amqpkit", "parked", "discard", "--reason", "attempts", "orders.parked"}, in, &out, &out, func(name string) string { return s.env[name] })
		want := "Discard the selected ones of 2 messages in queue \"orders.parked\" for good? [y/N] "
		if code == 0 {
			want += "discarded 1 of 2 messages, 1 stays parked\n"
		} else {
			want += "amqpkit parked discard: nothing was discarded\n"
		}
		if got != code || out.String() != want {
			t.Errorf("answer %q: exit code %d, %q", answer, got, out.String())
		}
	}
	s := newShell(t)
	s.park()
	s.expect("amqpkit parked discard orders.parked", 2, "amqpkit parked discard: discard cannot ask without a terminal; add --yes, or --dry-run to count the messages\n")
	s.expect("amqpkit parked discard --dry-run orders.parked", 0, "would discard 2 of 2 messages, 0 stay parked\n")
	s.expect("amqpkit parked discard --yes orders.parked", 0, "discarded 2 of 2 messages, 0 stay parked\n")
}

// typed is a terminal on which a person types.
type typed struct{ io.Reader }

func (*typed) IsTerminal() bool { return true }

func TestDiscardedMessagesAreInTheFileBeforeTheyLeaveTheQueue(t *testing.T) {
	s := newShell(t)
	s.park()
	original := s.run("amqpkit parked export orders.parked -")
	uncounted := func(b []byte) string { return strings.ReplaceAll(string(b), `"x-acquired-count":"int64:1",`, "") } // of the export
	acks := 0
	s.broker.Intercept(func(r *amqptest.Request) bool {
		if class, method, _ := r.Method(); class == 60 && method == 80 {
			if acks++; acks == 1 && uncounted(s.read("out.ndjson.part")) != original {
				t.Errorf("the first acknowledgement came while the file held %q", s.read("out.ndjson.part"))
			}
		}
		return false
	})
	s.expect("amqpkit parked discard --export out.ndjson --yes orders.parked", 0, "discarded 2 of 2 messages, 0 stay parked\n")
	if got := uncounted(s.read("out.ndjson")); got != original || acks == 0 {
		t.Errorf("the file holds %s after %d acknowledgements, want %s", got, acks, original)
	}
}

func TestDiscardStopsIfItsFileCannotBeWritten(t *testing.T) {
	s := newShell(t)
	s.park()
	file, err := createNew(s.path("out.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := amqpkit.DialConfig(t.Context(), amqpkit.Config{URLs: []string{s.broker.URL()}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	d := &discarder{file: file, buffer: bufio.NewWriter(file), messages: map[string]amqp.Publishing{}}
	r, err := parking.Replay(t.Context(), conn, d, parking.ReplayConfig{Queue: "orders.parked", To: d.address})
	if !errors.Is(err, os.ErrClosed) || r.Replayed != 0 || len(s.broker.Messages("orders.parked")) != 2 {
		t.Errorf("Replay = %+v, %v, left %s", r, err, s.bodies("orders.parked"))
	}
}

func TestParkedMessagesAreNotReadWhereRabbitMQMayDropOne(t *testing.T) {
	s := newShell(t)
	s.queue("dlq", amqp.Table{"x-queue-type": "quorum"})
	s.fill("dlq", 1)
	for _, command := range []string{"list dlq", "show dlq m-1", "replay dlq", "export dlq -", "discard --id m-1 --yes dlq", "discard --dry-run dlq"} {
		if got := s.run("amqpkit parked " + command); s.code != 1 || !strings.Contains(got, "add --force to peek all the same") {
			t.Errorf("%s: exit code %d, %s", command, s.code, got)
		}
	}
	s.expect("amqpkit parked discard --yes dlq", 0, "discarded 1 of 1 message, 0 stay parked\n") // returns none
}

func TestInterruptedReplayPrintsItsResult(t *testing.T) {
	s := newShell(t)
	s.park()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_ = s.broker.Await(t.Context(), func() bool {
			q, _ := s.broker.Queue("orders.parked")
			return q.Ready+q.Unacked == 1
		})
		cancel()
	}()
	var out screen
	code := run(ctx, []string{"amqpkit", "parked", "replay", "--rate", "0.01", "orders.parked"}, nil, &out, &out, func(name string) string { return s.env[name] })
	if want := "replayed 1 of 2 messages, 1 stays parked\namqpkit parked replay: interrupted\n"; code != exitInterrupted || out.String() != want {
		t.Errorf("exit code %d, %q, want %q", code, out.String(), want)
	}
}
