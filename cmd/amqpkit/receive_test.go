package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
)

// fill stores n messages with the bodies 1, 2, … in a queue.
func (s *shell) fill(queue string, n int) {
	s.t.Helper()
	for i := range n {
		s.publish(queue, amqptest.Message{MessageID: fmt.Sprint("m-", i+1), Body: fmt.Append(nil, i+1)})
	}
}

func TestReceiveTakesNoMoreThanItPrints(t *testing.T) {
	for _, n := range []int{1, window - 1, window, window + 1, 2*window + 50} {
		s := newShell(t)
		s.queue("q", amqp.Table{"x-queue-type": "quorum"})
		s.fill("q", 2*window+100)
		s.expect(fmt.Sprintf("amqpkit receive --ack --count %d --output json q | wc -l", n), 0, fmt.Sprintln(n))
		left := s.broker.Messages("q")
		if len(left) != 2*window+100-n || string(left[0].Body) != fmt.Sprint(n+1) || left[0].Redelivered {
			t.Errorf("after %d: %d left, the first is %q, redelivered %t", n, len(left), left[0].Body, left[0].Redelivered)
		}
	}
}

func TestReceiveEndsWhenTheQueueIsEmpty(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	s.expect("amqpkit receive --ack q", 0, "")
	s.fill("q", 3*window)
	s.expect("amqpkit receive --ack --output json q | wc -l", 0, fmt.Sprintln(3*window))
	if left := s.bodies("q"); left != "" {
		t.Errorf("left %s", left)
	}
	s.expect("amqpkit receive --ack missing", 1,
		"amqpkit receive: receive from queue \"missing\": Exception (404) Reason: \"NOT_FOUND - no queue 'missing' in vhost '/'\"; check the name and the virtual host of the URL\n")
}

// full is an output that fails after a number of bytes.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

func TestMessageStaysInTheQueueIfTheOutputBreaks(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	body := strings.Repeat("x", 3000)
	for range 10 {
		s.publish("q", amqptest.Message{Body: []byte(body)})
	}
	var errors screen
	code := run(t.Context(), []string{"amqpkit", "receive", "--ack", "q"}, nil, &full{left: 10_000}, &errors, func(name string) string { return s.env[name] })
	if want := "amqpkit receive: the output was closed; the other messages stay in the queue\n"; code != 1 || errors.String() != want {
		t.Errorf("exit code %d, %q, want %q", code, errors.String(), want)
	}
	if err := s.broker.Await(t.Context(), func() bool { return len(s.broker.Messages("q")) == 10 }); err != nil {
		t.Error(err)
	}
}

func TestFollowWaitsForMessagesAcrossLostConnections(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out screen
	code := make(chan int)
	go func() {
		code <- run(ctx, []string{"amqpkit", "receive", "--ack", "--follow", "q"}, nil, &out, new(screen), func(name string) string { return s.env[name] })
	}()
	settled := func(queue string) func() bool {
		return func() bool {
			q, _ := s.broker.Queue(queue)
			return q.Ready+q.Unacked == 0 && q.Consumers == 1
		}
	}
	for i := range 3 {
		s.publish("q", amqptest.Message{Body: fmt.Append(nil, "body ", i)})
		if err := s.broker.Await(t.Context(), settled("q")); err != nil {
			t.Fatal(err)
		}
		s.broker.DropConnections()
	}
	if err := s.broker.Await(t.Context(), settled("q")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if got := <-code; got != exitInterrupted {
		t.Errorf("exit code %d", got)
	}
	if want := "message 1: key \"q\"\nbody 0\nmessage 2: key \"q\"\nbody 1\nmessage 3: key \"q\"\nbody 2\n"; strings.ReplaceAll(out.String(), ", redelivered", "") != want {
		t.Errorf("output %q, want %q", out.String(), want)
	}
}

func TestPeekIsRefusedWhereRabbitMQMayDropAMessage(t *testing.T) {
	s := newShell(t)
	for name, args := range map[string]amqp.Table{
		"classic": nil, "lazy": {"x-max-length": 5, "x-dead-letter-exchange": "it's", "x-single-active-consumer": false},
		"default": {"x-queue-type": "quorum"}, "limited": {"x-queue-type": "quorum", "x-delivery-limit": 3, "x-dead-letter-exchange": "d", "x-message-ttl": 60000, "x-expires": 60000},
		"unlimited": {"x-queue-type": "quorum", "x-delivery-limit": -1, "x-overflow": "reject-publish"},
	} {
		s.queue(name, args)
		s.fill(name, 1)
	}
	const classic = "amqpkit receive: classic queue: the messages are marked as redelivered and keep their order\n"
	const why = "RabbitMQ 4.3.6: a message that was dead-lettered to this queue after it had reached a delivery limit may be dropped or dead-lettered when it is returned"
	show := func(queue string) string { return "message 1: key \"" + queue + "\", id \"m-1\"\n1\n" }
	s.expect("amqpkit receive --peek classic", 0, classic+show("classic"))
	s.expect("amqpkit receive --peek lazy", 0, classic+show("lazy"))
	s.expect("amqpkit receive --peek unlimited", 0, "amqpkit receive: quorum queue without a delivery limit: the messages are marked as redelivered\n"+show("unlimited"))
	s.expect("amqpkit receive --peek default", 1, "amqpkit receive: queue \"default\" was not read: quorum queue with the default delivery limit of 20, "+why+"; add --force to peek all the same\n")
	s.expect("amqpkit receive --peek limited", 1, "amqpkit receive: queue \"limited\" was not read: quorum queue with a delivery limit of 3, "+why+"; add --force to peek all the same\n")
	s.expect("amqpkit receive --peek --force default", 0, "amqpkit receive: quorum queue with the default delivery limit of 20, "+why+"\n"+show("default"))
	for _, name := range []string{"classic", "lazy", "default", "limited", "unlimited"} {
		if got := s.bodies(name); got != "1" {
			t.Errorf("queue %s holds %q", name, got)
		}
	}
	s.expect("amqpkit receive --peek missing", 1, "amqpkit receive: Exception (404) Reason: \"NOT_FOUND - no queue 'missing' in vhost '/'\"; check the name and the virtual host of the URL\n")
	if _, ok := s.broker.Queue("missing"); ok {
		t.Error("the queue missing was created")
	}
}

func TestCostOfAPeekDependsOnTheTypeAndTheVersion(t *testing.T) {
	three, unlimited := int64(3), int64(-1)
	for _, c := range []struct {
		t       queueType
		version string
		risky   bool
	}{
		{queueType{"classic", nil}, "4.0.5", false},
		{queueType{"stream", nil}, "4.3.6", false},
		{queueType{"quorum", nil}, "3.13.7", false},
		{queueType{"quorum", &three}, "3.13.7", true},
		{queueType{"quorum", nil}, "4.0.5", true},
		{queueType{"quorum", nil}, "4.3.6", true},
		{queueType{"quorum", &three}, "4.3.6", true},
		{queueType{"quorum", &unlimited}, "4.0.5", false},
		{queueType{"quorum", &unlimited}, "4.3.6", false},
		{queueType{}, "4.3.6", true},
		{queueType{"quorum", nil}, "5.0.0", true},
	} {
		if got := costOf(c.t, amqp.Table{"version": c.version}); got.risky != c.risky || got.text == "" {
			t.Errorf("%v on %s: %+v", c.t, c.version, got)
		}
	}
}

func TestTypeIsUnknownToAUserWhoMayNotConfigureTheQueue(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	s.broker.Intercept(func(r *amqptest.Request) bool {
		class, method, _ := r.Method()
		if class != 50 || method != 10 || r.Payload[len(r.Payload)-1] == 0 { // a passive declare has no arguments
			return false
		}
		r.CloseChannel(403, "ACCESS_REFUSED - configure access to queue 'q' in vhost '/' refused for user 'guest'")
		return true
	})
	s.expect("amqpkit receive --peek q", 1, "amqpkit receive: queue \"q\" was not read: the type of the queue is unknown, because this user may not configure it; "+
		"if it is a quorum queue with a delivery limit, RabbitMQ may drop or dead-letter messages that were peeked at; add --force to peek all the same\n")
}

func TestBodiesCannotHarmTheTerminal(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	s.publish("q", amqptest.Message{MessageID: "\x1b]0;id\x07", Headers: map[string]any{"x": "\x1b[2J"}, Body: []byte("a\tb\n\x1b[31mred\r\u202etxt")})
	s.publish("q", amqptest.Message{Body: []byte("\xff\x00binary")})
	s.expect("amqpkit receive --ack q", 0, `
message 1: key "q", id "\x1b]0;id\a", headers {"x":"\u001b[2J"}
a	b
\x1b[31mred\r\u202etxt
message 2: key "q"
00000000  ff 00 62 69 6e 61 72 79                           |..binary|
`)
}

func TestBodiesAreWrittenIntoFiles(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	s.publish("q", amqptest.Message{MessageID: "m-1", Body: []byte("\x00\xff")})
	s.publish("q", amqptest.Message{Body: []byte("two")})
	s.expect("amqpkit receive --ack --dir bodies.dir q", 0, `
message 1: key "q", id "m-1"
body in bodies.dir/000001
message 2: key "q"
body in bodies.dir/000002
`)
	if b, err := os.ReadFile(s.path("bodies.dir") + "/000001"); string(b) != "\x00\xff" {
		t.Errorf("%q, %v", b, err)
	}
	s.publish("q", amqptest.Message{Body: []byte("three")})
	s.expect("amqpkit receive --ack --dir bodies.dir q", 1,
		"amqpkit receive: open bodies.dir/000001: file exists; the other messages stay in the queue; use another --dir\n")
	if got := s.bodies("q"); got != "three" {
		t.Errorf("the queue holds %q", got)
	}
}

func TestReceiveShowsProgressUnlessTheTerminalShowsTheMessages(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	for _, redirected := range []bool{true, false} {
		s.fill("q", 1)
		out, errors := &tty{terminal: !redirected}, &tty{terminal: true}
		a := &app{in: strings.NewReader(""), out: out, err: errors, getenv: func(name string) string { return s.env[name] }, interval: 10 * time.Millisecond}
		if code := a.run(t.Context(), []string{"amqpkit", "receive", "--ack", "q"}); code != 0 {
			t.Fatal(code, errors.String())
		}
		if shown := errors.String(); strings.Contains(shown, "\r\x1b[K1 message") != redirected {
			t.Errorf("redirected %t: %q", redirected, shown)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add([]byte("text\x1b[31m"))
	f.Add([]byte{0xff, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, r := range printable(body) {
			if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("printable(%q) contains %U", body, r)
			}
		}
	})
}

func FuzzDecodeLine(f *testing.F) {
	f.Add([]byte(`{"key":"q","headers":{"n":"int64:5"},"body":"x"}`))
	f.Add([]byte(`{"body":"base64:AAEC","priority":"uint8:5"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := decodeLine(line)
		if err != nil {
			return
		}
		var out screen
		if err := printJSON(&out, encodeLine(m.Exchange, m.Key, m.Publishing)); err != nil {
			t.Fatal(err)
		}
		again, err := decodeLine([]byte(out.String()))
		if err != nil || fmt.Sprintf("%#v", again.Publishing.Body) != fmt.Sprintf("%#v", m.Publishing.Body) && len(m.Publishing.Body) > 0 {
			t.Fatalf("%q became %q: %v", line, out.String(), err)
		}
	})
}
