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

// eventTimeout is the longest wait for an event, after which the test fails.
const eventTimeout = 20 * time.Second

// A Broker is the broker that a scenario runs on.
type Broker struct {
	URL string
	// Pass advances the broker's clock, or waits.
	Pass func(time.Duration)
}

// A Script is a running scenario. It performs operations on a broker and writes their results to the transcript. Errors
// that the scenario is not about, such as a failed login, fail the test.
type Script struct {
	tb     testing.TB
	ctx    context.Context
	broker Broker
	suffix string // added to all names, so that scenarios can share a broker
	lines  strings.Builder
}

// Transcript runs the scenario on a broker and returns the transcript.
func (c Scenario) Transcript(tb testing.TB, b Broker) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	s := &Script{tb: tb, ctx: ctx, broker: b, suffix: "~" + rand.Text()[:6]}
	c.Run(s)
	return s.lines.String()
}

// Name returns a unique name on the broker. The transcript shows it as name. A queue or exchange with the unique name is
// deleted when the test ends.
func (s *Script) Name(name string) string {
	full := name + s.suffix
	s.tb.Cleanup(func() { s.remove(full) })
	return full
}

func (s *Script) remove(name string) {
	conn, err := amqp.Dial(s.broker.URL)
	if err != nil {
		s.tb.Errorf("cleanup: %v", err)
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
			s.tb.Logf("cleanup of %s: %v", name, err)
		}
	}
}

// Title starts a section of the transcript.
func (s *Script) Title(format string, args ...any) {
	if s.lines.Len() > 0 {
		s.lines.WriteByte('\n')
	}
	s.Note("# "+format, args...)
}

// Note writes a line. It removes or replaces the parts of names that differ in every run.
func (s *Script) Note(format string, args ...any) {
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), s.suffix, "")
	line = serverNamed.ReplaceAllString(line, "amq.gen-...")
	s.lines.WriteString(replyAddress.ReplaceAllString(line, replyTo+"....") + "\n")
}

// Pass advances the broker's clock, or waits.
func (s *Script) Pass(d time.Duration) { s.broker.Pass(d) }

// Must fails the test if err is not nil. Use it for errors that the scenario is not about.
func (s *Script) Must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatalf("%v\ntranscript so far:\n%s", err, s.lines.String())
	}
}

// Dial opens a connection. It is closed when the test ends.
func (s *Script) Dial() *Conn {
	s.tb.Helper()
	var socket net.Conn
	conn, err := amqp.DialConfig(s.broker.URL, amqp.Config{
		Heartbeat: 10 * time.Second,
		Dial: func(network, addr string) (_ net.Conn, err error) {
			socket, err = amqp.DefaultDial(eventTimeout)(network, addr)
			return socket, err
		},
	})
	s.Must(err)
	s.tb.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(eventTimeout)) })
	return &Conn{Connection: conn, s: s, closed: conn.NotifyClose(make(chan *amqp.Error, 1)), socket: socket}
}

// Channel opens a channel on a new connection.
func (s *Script) Channel() *Channel {
	s.tb.Helper()
	return s.Dial().Open()
}

// Try runs act on a new connection and writes the result: ok, an error of the client, or the code and text with which the
// broker closed the channel or connection. It waits until the broker has processed the methods that act sent.
func (s *Script) Try(what string, act func(ch *Channel) error) {
	s.tb.Helper()
	ch := s.Channel()
	defer ch.conn.Close()
	s.Note("%s: %s", what, ch.outcome(act(ch)))
}

// Holds waits until n messages are ready in a queue, and writes their number. The broker may need a moment to apply
// settlements. If the wait times out, Holds writes the actual number.
func (s *Script) Holds(queue string, n int) {
	s.tb.Helper()
	s.Note("%s holds %d", queue, s.awaitReady(queue, n))
}

// awaitReady is Holds without output. It returns the number of ready messages.
func (s *Script) awaitReady(queue string, n int) int {
	s.tb.Helper()
	conn := s.Dial()
	defer conn.Close()
	ch, err := conn.Channel()
	s.Must(err)
	for end := time.Now().Add(eventTimeout); ; {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		s.Must(err)
		if q.Messages == n || time.Now().After(end) {
			return q.Messages
		}
		time.Sleep(time.Millisecond)
	}
}
