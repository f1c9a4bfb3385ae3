package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/internal/history"
)

var update = flag.Bool("update", false, "write the output of the commands into docs/cli.md")

// Fixtures prepare the broker for the examples of the commands.
var fixtures = map[string]func(*shell){
	"send": func(s *shell) {
		s.queue("hello", nil)
		s.queue("hello.copy", nil)
		s.queue("orders.billing", nil)
		ch := s.channel()
		if err := ch.ExchangeDeclare("orders", "topic", true, false, false, false, nil); err != nil {
			s.t.Fatal(err)
		}
		if err := ch.QueueBind("orders.billing", "order.*", "orders", false, nil); err != nil {
			s.t.Fatal(err)
		}
		s.write("names.txt", "Ada\nGrace\nBarbara\n")
	},
	"receive": func(s *shell) {
		s.queue("hello", nil)
		s.publish("hello", amqptest.Message{MessageID: "m-1", DeliveryMode: 2, Body: []byte("Hello World!")})
		s.publish("hello", amqptest.Message{MessageID: "m-2", DeliveryMode: 2, Body: []byte("How are you?")})
	},
}

func init() {
	for _, name := range []string{"list", "show", "replay", "export", "discard"} {
		fixtures["parked "+name] = (*shell).park
	}
	fixtures["parked import"] = func(s *shell) {
		s.park()
		s.run("amqpkit parked export orders.parked parked.ndjson")
	}
}

// park declares a queue and its parking queue, as a retry plan does, and parks two messages.
func (s *shell) park() {
	s.t.Helper()
	s.queue("orders", nil)
	s.queue("orders.parked", amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": -1, "x-overflow": "reject-publish"})
	s.publish("orders.parked", amqptest.Message{
		MessageID: "m-1", ContentType: "application/json", DeliveryMode: 2, Body: []byte(`{"id":"7"}`),
		Headers: map[string]any{
			"tenant": "acme", history.HeaderQueue: "orders", history.HeaderExchange: "shop", history.HeaderKey: "order.paid", history.HeaderAttempts: int64(5),
			history.HeaderFirstFailure: "2026-11-30T09:00:00.000Z", history.HeaderLastFailure: "2026-11-30T09:15:00.000Z",
			history.HeaderError: "payment timeout", history.HeaderReason: history.ReasonAttempts,
		},
	})
	s.publish("orders.parked", amqptest.Message{
		MessageID: "m-2", ContentType: "application/json", DeliveryMode: 2, Body: []byte(`{"id":"8"}`),
		Headers: map[string]any{
			history.HeaderQueue: "orders", history.HeaderExchange: "shop", history.HeaderKey: "order.paid", history.HeaderAttempts: int64(1),
			history.HeaderLastFailure: "2026-11-30T09:20:00.000Z", history.HeaderError: "no address", history.HeaderReason: history.ReasonPermanent,
		},
	})
}

func TestExamplesOfTheHelpPrintWhatTheySay(t *testing.T) {
	each((&app{}).root(), func(name string, c *cli.Command) {
		if !strings.Contains(c.Description, "  $ ") {
			return
		}
		t.Run(name, func(t *testing.T) {
			s := newShell(t)
			if prepare := fixtures[name]; prepare != nil {
				prepare(s)
			} else {
				t.Fatal("no fixture")
			}
			if got := transcript(s, c.Description, "  "); got != c.Description {
				t.Errorf("the examples print\n%s\nnot\n%s", got, c.Description)
			}
		})
	})
}

// each calls f for each command below c, with its name as it is typed.
func each(c *cli.Command, f func(name string, c *cli.Command)) {
	var walk func(prefix string, list []*cli.Command)
	walk = func(prefix string, list []*cli.Command) {
		for _, c := range list {
			f(prefix+c.Name, c)
			walk(prefix+c.Name+" ", c.Commands)
		}
	}
	walk("", c.Commands)
}

func TestPageOfTheCommandPrintsWhatItSays(t *testing.T) {
	const file = "../../docs/cli.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := newShell(t)
	fixtures["send"](s)
	s.park()
	s.queue("invoices", amqp.Table{"x-queue-type": "quorum"})
	got := transcript(s, string(b), "")
	switch {
	case got == string(b):
	case *update:
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s differs; run go test ./cmd/amqpkit -update. The commands print\n%s", file, got)
	}
}

// transcript runs the lines of a text that begin with a $, and returns the text with their output. The output of a command is all that follows it up to
// an empty line, another command or the end of a block.
func transcript(s *shell, text, indent string) string {
	lines := strings.Split(text, "\n")
	var out []string
	for i := 0; i < len(lines); {
		line, isCommand := strings.CutPrefix(lines[i], indent+"$ ")
		out = append(out, lines[i])
		i++
		if !isCommand {
			continue
		}
		for strings.HasSuffix(line, `\`) {
			out = append(out, lines[i])
			line = strings.TrimSuffix(line, `\`) + strings.TrimSpace(lines[i])
			i++
		}
		for i < len(lines) && lines[i] != "" && !strings.HasPrefix(lines[i], indent+"$ ") && !strings.HasPrefix(lines[i], "```") {
			i++
		}
		if shown := strings.TrimSuffix(s.run(line), "\n"); shown != "" {
			for l := range strings.SplitSeq(shown, "\n") {
				out = append(out, indent+l)
			}
		}
	}
	return strings.Join(out, "\n")
}
