package conformance

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// soon is when what does not come is taken for lost.
const soon = 20 * time.Second

// A Broker is where scenarios are run.
type Broker struct {
	URL string
	// Pass lets time go by on the broker's clock.
	Pass func(time.Duration)
}

// A Script is a scenario on its way: it acts on a broker and writes down what it sees. Whatever cannot be the
// scenario's subject, such as a login that fails, ends the test.
type Script struct {
	tb     testing.TB
	ctx    context.Context
	broker Broker
	suffix string // of all names, so that scenarios do not meet on a broker
	lines  strings.Builder
}

// Transcript runs the scenario on a broker and returns what it wrote.
func (c Scenario) Transcript(tb testing.TB, b Broker) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	s := &Script{tb: tb, ctx: ctx, broker: b, suffix: "~" + rand.Text()[:6]}
	c.Run(s)
	return s.lines.String()
}

// Name makes a name of its own on the broker of one that the transcript has. A queue or an exchange of that name is
// deleted in the end.
func (s *Script) Name(name string) string {
	full := name + s.suffix
	s.tb.Cleanup(func() { s.remove(full) })
	return full
}

func (s *Script) remove(name string) {
	conn, err := amqp.Dial(s.broker.URL)
	if err != nil {
		s.tb.Errorf("clean up: %v", err)
		return
	}
	defer conn.Close()
	for _, remove := range []func(*amqp.Channel) error{
		func(ch *amqp.Channel) error { _, err := ch.QueueDelete(name, false, false, false); return err },
		func(ch *amqp.Channel) error { return ch.ExchangeDelete(name, false, false) },
	} {
		ch, err := conn.Channel()
		if err == nil {
			err = remove(ch)
		}
		if err != nil {
			s.tb.Logf("clean up %s: %v", name, err)
		}
	}
}

// Title begins a part of the transcript.
func (s *Script) Title(format string, args ...any) {
	if s.lines.Len() > 0 {
		s.lines.WriteByte('\n')
	}
	s.Note("# "+format, args...)
}

// Note writes a line, without what no two runs have in common.
func (s *Script) Note(format string, args ...any) {
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), s.suffix, "")
	line = serverNamed.ReplaceAllString(line, "amq.gen-...")
	s.lines.WriteString(replyAddress.ReplaceAllString(line, replyTo+"....") + "\n")
}

// Pass lets time go by on the broker's clock.
func (s *Script) Pass(d time.Duration) { s.broker.Pass(d) }

// Must ends the test over an error that is not the scenario's subject.
func (s *Script) Must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatalf("%v\nafter\n%s", err, s.lines.String())
	}
}

// Dial connects. The connection is closed in the end.
func (s *Script) Dial() *Conn {
	s.tb.Helper()
	var socket net.Conn
	conn, err := amqp.DialConfig(s.broker.URL, amqp.Config{
		Heartbeat: 10 * time.Second,
		Dial: func(network, addr string) (_ net.Conn, err error) {
			socket, err = amqp.DefaultDial(soon)(network, addr)
			return socket, err
		},
	})
	s.Must(err)
	s.tb.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(soon)) })
	return &Conn{Connection: conn, s: s, closed: conn.NotifyClose(make(chan *amqp.Error, 1)), socket: socket}
}

// Channel opens a channel on a connection of its own.
func (s *Script) Channel() *Channel {
	s.tb.Helper()
	return s.Dial().Open()
}

// Try does something on a channel of its own and writes what came of it: ok, an error of the client, or the channel or
// the connection closed by the broker, with code and text. It waits for the broker to have seen what was sent.
func (s *Script) Try(what string, act func(ch *Channel) error) {
	s.tb.Helper()
	ch := s.Channel()
	defer ch.conn.Close()
	s.Note("%s: %s", what, ch.outcome(act(ch)))
}

// Holds writes how many messages are ready in a queue, which it waits for: settlements take a moment.
func (s *Script) Holds(queue string, n int) {
	s.tb.Helper()
	s.Note("%s holds %d", queue, s.awaitReady(queue, n))
}

// awaitReady is Holds without a word: it returns how many messages are ready.
func (s *Script) awaitReady(queue string, n int) int {
	s.tb.Helper()
	conn := s.Dial()
	defer conn.Close()
	ch, err := conn.Channel()
	s.Must(err)
	for end := time.Now().Add(soon); ; {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		s.Must(err)
		if q.Messages == n || time.Now().After(end) {
			return q.Messages
		}
		time.Sleep(time.Millisecond)
	}
}
