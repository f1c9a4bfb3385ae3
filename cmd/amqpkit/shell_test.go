package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
)

// A shell runs command lines as a person types them, in a folder of its own and against a broker in the test process.
type shell struct {
	t      *testing.T
	broker *amqptest.Broker
	dir    string
	env    map[string]string
	code   int // of the last command
}

func newShell(t *testing.T, c ...amqptest.Config) *shell {
	t.Helper()
	b := amqptest.Start(t, c...)
	s := &shell{t: t, broker: b, dir: t.TempDir(), env: map[string]string{"AMQP_URL": b.URL()}}
	s.env["AMQPKIT_CONFIG"] = filepath.Join(s.dir, "config.json")
	return s
}

// run runs a line and returns what the terminal shows. It knows pipes, < and > with files, printf, cat, wc -l and echo $?.
func (s *shell) run(line string) string {
	s.t.Helper()
	terminal := new(screen)
	var in io.Reader = strings.NewReader("")
	commands := split(s.t, line)
	for i, words := range commands {
		var out io.Writer = terminal
		pipe := new(bytes.Buffer)
		if i < len(commands)-1 {
			out = pipe
		}
		var args []string
		for j := 0; j < len(words); j++ {
			switch words[j] {
			case "<":
				j++
				in = bytes.NewReader(s.read(words[j]))
			case ">":
				j++
				f, err := os.Create(s.path(words[j]))
				if err != nil {
					s.t.Fatal(err)
				}
				defer f.Close()
				out = f
			default:
				args = append(args, words[j])
			}
		}
		switch args[0] {
		case "amqpkit":
			for j, arg := range args {
				if strings.HasSuffix(arg, ".json") || strings.HasSuffix(arg, ".ndjson") || strings.HasSuffix(arg, ".dir") {
					args[j] = s.path(arg)
				}
			}
			s.code = run(s.t.Context(), args, in, out, terminal, func(name string) string { return s.env[name] })
		case "printf":
			fmt.Fprint(out, strings.ReplaceAll(args[1], `\n`, "\n"))
		case "cat":
			fmt.Fprint(out, string(s.read(args[1])))
		case "wc":
			b, _ := io.ReadAll(in)
			fmt.Fprintln(out, bytes.Count(b, []byte("\n")))
		case "echo":
			fmt.Fprintln(out, strings.ReplaceAll(args[1], "$?", fmt.Sprint(s.code)))
		default:
			s.t.Fatalf("unknown command %q", args[0])
		}
		in = pipe
	}
	return strings.ReplaceAll(terminal.String(), s.dir+string(filepath.Separator), "")
}

// expect runs a line and compares the terminal and the exit code.
func (s *shell) expect(line string, code int, want string) {
	s.t.Helper()
	got := s.run(line)
	if want = strings.TrimPrefix(want, "\n"); got != want || s.code != code {
		s.t.Errorf("$ %s\n%s(exit code %d), want\n%s(exit code %d)", line, got, s.code, want, code)
	}
}

func (s *shell) path(name string) string { return filepath.Join(s.dir, filepath.Base(name)) }

func (s *shell) read(name string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *shell) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// channel returns a raw channel for the preparation of a test.
func (s *shell) channel() *amqp.Channel {
	s.t.Helper()
	ac, err := amqp.Dial(s.broker.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { ac.Close() })
	ch, err := ac.Channel()
	if err != nil {
		s.t.Fatal(err)
	}
	return ch
}

// queue declares a durable queue.
func (s *shell) queue(name string, args amqp.Table) {
	s.t.Helper()
	if _, err := s.channel().QueueDeclare(name, true, false, false, false, args); err != nil {
		s.t.Fatal(err)
	}
}

// publish stores a message in a queue.
func (s *shell) publish(queue string, m amqptest.Message) {
	s.t.Helper()
	if routed, err := s.broker.Publish("", queue, m); err != nil || !routed {
		s.t.Fatalf("publish to %s: %t, %v", queue, routed, err)
	}
}

// bodies returns the bodies of the messages in a queue.
func (s *shell) bodies(queue string) string {
	var list []string
	for _, m := range s.broker.Messages(queue) {
		list = append(list, string(m.Body))
	}
	return strings.Join(list, " ")
}

// split returns the words of a line for each command of its pipe.
func split(t *testing.T, line string) (commands [][]string) {
	t.Helper()
	var words []string
	var word strings.Builder
	quote, started := rune(0), false
	end := func() {
		if started {
			words = append(words, word.String())
		}
		word.Reset()
		started = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, started = r, true
		case r == ' ':
			end()
		case r == '|':
			end()
			commands, words = append(commands, words), nil
		default:
			word.WriteRune(r)
			started = true
		}
	}
	if end(); quote != 0 {
		t.Fatalf("unfinished quotation in %q", line)
	}
	return append(commands, words)
}

// A screen is a terminal that several goroutines write to.
type screen struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
