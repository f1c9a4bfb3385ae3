package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
)

func TestSendSetsThePropertiesOfTheFlags(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	s.expect(`amqpkit send --queue q --header a=b,c --header n:=5 --header f:=1.5 --header ok:=true --header list:='[1,"x"]' --expiration 30s `+
		`--priority 7 --content-type text/plain --correlation-id c --reply-to r --message-id m --type T --app-id A --transient 'help'`, 0, "1 message confirmed\n")
	m := s.broker.Messages("q")[0]
	got := fmt.Sprint(m.Headers, m.Expiration, m.Priority, m.ContentType, m.CorrelationID, m.ReplyTo, m.MessageID, m.Type, m.AppID, m.DeliveryMode, string(m.Body))
	if want := `map[a:b,c f:1.5 list:[1 x] n:5 ok:true]300007text/plaincrmTA1help`; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
	if _, ok := m.Headers["n"].(int64); !ok {
		t.Errorf("n is %T", m.Headers["n"])
	}
}

func TestSendReportsEachMessageThatNoQueueHas(t *testing.T) {
	s := newShell(t)
	s.queue("full", amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	s.expect(`amqpkit send -q nowhere one two`, 4, `
message 1 (text 1): unroutable: no queue is bound to the default exchange for key "nowhere"
message 2 (text 2): unroutable: no queue is bound to the default exchange for key "nowhere"
0 messages confirmed, 2 unroutable
`)
	s.expect(`amqpkit send -q full --message-id m one two`, 4, `
message 2 (text 2): nacked: refused by the broker: message "m" to the default exchange, key "full"
1 message confirmed, 1 refused
`)
	s.expect(`amqpkit send -q full --message-id m --output json three`, 4, `
{"error":"refused by the broker: message \"m\" to the default exchange, key \"full\"","exchange":"","from":"text 1","key":"full","message":1,"outcome":"nacked"}
{"confirmed":0,"unroutable":0,"nacked":1,"unknown":0,"unsent":0}
`)
	s.expect(`amqpkit send --exchange missing --key k --message-id m one two three`, 1, `
0 messages confirmed, 3 not sent
amqpkit send: message 1 (text 1) was not sent: not published: message "m" to exchange "missing", key "k": Exception (404) Reason: "NOT_FOUND - no exchange 'missing' in vhost '/'"; declare the exchange in the connection's Setup, or correct its name
`)
}

func TestSendKeepsTheOrderOfALongInput(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	var lines strings.Builder
	for i := range 3000 {
		fmt.Fprintln(&lines, i)
	}
	s.write("lines.ndjson", lines.String())
	s.expect("amqpkit send -q q - < lines.ndjson", 0, "3,000 messages confirmed\n")
	for i, m := range s.broker.Messages("q") {
		if string(m.Body) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m.Body)
		}
	}
}

func TestSendStopsAtALineThatIsNotAMessage(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	s.write("in.ndjson", `{"key":"q","body":"one"}`+"\n\n"+`{"key":"q","headers":{"n":5}}`+"\n"+`{"key":"q"}`+"\n")
	s.expect("amqpkit send --ndjson < in.ndjson", 1, `
1 message confirmed
amqpkit send: line 3: headers: a number has no type; write "int64:5"
`)
	s.write("in.ndjson", `{"body":"one"}`+"\n")
	s.expect("amqpkit send --ndjson < in.ndjson", 1, `
0 messages confirmed
amqpkit send: line 1: it names no address; add "key", or use --queue or --exchange
`)
}

// blocking is a standard input that provides a line and then nothing.
type blocking struct {
	io.Reader
	read chan struct{}
	end  chan struct{}
}

func (b *blocking) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		close(b.read)
		<-b.end
	}
	return n, err
}

func TestInterruptedSendReportsWhatWasConfirmed(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	in := &blocking{strings.NewReader("one\n"), make(chan struct{}), make(chan struct{})}
	defer close(in.end)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-in.read
		_ = s.broker.Await(t.Context(), func() bool { return len(s.broker.Messages("q")) == 1 })
		cancel()
	}()
	var out screen
	code := run(ctx, []string{"amqpkit", "send", "-q", "q", "--lines"}, in, &out, &out, func(name string) string { return s.env[name] })
	if want := "1 message confirmed\namqpkit send: interrupted\n"; code != exitInterrupted || out.String() != want {
		t.Errorf("exit code %d, output %q, want %q", code, out.String(), want)
	}
}

func TestSendWaitsBetweenMessagesForTheRate(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	started := time.Now()
	s.expect("amqpkit send -q q --rate 50 --count 6 x", 0, "6 messages confirmed\n")
	if took := time.Since(started); took < 100*time.Millisecond {
		t.Errorf("six messages at 50/s took %v", took)
	}
}

func TestSendShowsProgressOnATerminalAndLinesElsewhere(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	for _, terminal := range []bool{true, false} {
		errors := &tty{terminal: terminal}
		a := &app{
			in: strings.NewReader(""), out: io.Discard, err: errors, getenv: func(name string) string { return s.env[name] }, interval: 10 * time.Millisecond,
		}
		if code := a.run(t.Context(), []string{"amqpkit", "send", "-q", "q", "--rate", "100", "--count", "10", "x"}); code != 0 {
			t.Fatal(code, errors.String())
		}
		shown := errors.String()
		if onOneLine := !strings.Contains(shown, "\n") && strings.HasSuffix(shown, "\r\x1b[K"); onOneLine != terminal || !strings.Contains(shown, "confirmed, ") {
			t.Errorf("terminal %t: %q", terminal, shown)
		}
	}
}

// A tty is a screen that says whether it is a terminal.
type tty struct {
	screen
	terminal bool
}

func (t *tty) IsTerminal() bool { return t.terminal }

func TestWrongUseNamesTheCorrection(t *testing.T) {
	s := newShell(t)
	for line, want := range map[string]string{
		"amqpkit sned":                                     `amqpkit: unknown command "sned"; did you mean send?`,
		"amqpkit parked lst":                               `amqpkit parked: unknown command "lst"; did you mean list?`,
		"amqpkit send":                                     "amqpkit send: give a TEXT, --file, --lines or --ndjson, and only one of them",
		"amqpkit send x":                                   "amqpkit send: name the target: --queue QUEUE, or --exchange EXCHANGE --key KEY",
		"amqpkit send -q q --lines x":                      "amqpkit send: give a TEXT, --file, --lines or --ndjson, and only one of them",
		"amqpkit send -q q --key k x":                      "amqpkit send: --queue excludes --exchange and --key: it is the key of the default exchange",
		"amqpkit send -q q --header x x":                   `amqpkit send: --header "x": write name=text, or name:=5 for a number, true, false, null, a list or a table in JSON`,
		"amqpkit send -q q --header n:=x x":                `amqpkit send: --header "n:=x": "x" is not a JSON value; write n=x for a text`,
		"amqpkit send -q q --priority 256 x":               "amqpkit send: --priority 256 is not from 0 to 255",
		"amqpkit send -q q --ndjson --type x":              "amqpkit send: --ndjson takes the properties from each line; leave out --type",
		"amqpkit send --wrong":                             "amqpkit send: flag provided but not defined: -wrong; see amqpkit send --help",
		"amqpkit send -q q --output xml x":                 `amqpkit send: invalid value "xml" for flag -output: unknown format "xml"; write text or json; see amqpkit send --help`,
		"amqpkit receive":                                  "amqpkit receive: QUEUE is missing; usage: amqpkit receive QUEUE",
		"amqpkit receive a b":                              `amqpkit receive: unexpected argument "b"; usage: amqpkit receive QUEUE`,
		"amqpkit receive q":                                "amqpkit receive: choose --ack to remove the messages from the queue, --peek to leave them there, or --offset first for a stream",
		"amqpkit receive --ack --peek q":                   "amqpkit receive: --ack and --peek exclude each other",
		"amqpkit receive --peek --follow q":                "amqpkit receive: --peek reads what the queue holds now; it cannot --follow",
		"amqpkit receive --offset 5m q":                    `amqpkit receive: --offset "5m": write first, last, next, a number from 0, or a time such as 2026-11-30T12:00:00Z`,
		"amqpkit --profile p --url amqp://x send -q q x":   "amqpkit send: --url and --profile exclude each other; keep one",
		"amqpkit send --url amqp://ops:secret@h/ -q q x":   "amqpkit send: --url contains a password, which other users can read in the list of processes; put the URL into AMQP_URL or a profile, or the password into a file for --password-file",
		"amqpkit send --url http://localhost/ -q q x":      "amqpkit send: --url: does not begin with amqp:// or amqps://; write amqp://user:password@host:5672/vhost, or amqps:// for TLS, with reserved characters in user, password and vhost percent-encoded (net/url.UserPassword does it)",
		"amqpkit send --url amqp://ops:sec%ret@h/ -q q x":  "amqpkit send: --url contains a password, which other users can read in the list of processes; put the URL into AMQP_URL or a profile, or the password into a file for --password-file",
		"amqpkit send -q q --rate -1 x":                    "amqpkit send: --rate -1 is not a rate; write messages per second",
		"amqpkit send -q q --expiration 1500us x":          "amqpkit send: --expiration 1.5ms is not a number of whole milliseconds",
		"amqpkit send --count 2 --lines -q q":              "amqpkit send: --count repeats texts and files, not the standard input",
		"amqpkit receive --ack --count 0 q":                "amqpkit receive: --count 0 is not a number of messages; write 1 or more",
		"amqpkit send -q q --header a=1 --header a=2 text": `amqpkit send: --header "a": the name occurs twice`,
	} {
		if got := s.run(line); got != want+"\n" || s.code != exitUsage {
			t.Errorf("$ %s\n%s(exit code %d), want\n%s", line, got, s.code, want)
		}
	}
}

func TestMessageSurvivesReceiveAndSend(t *testing.T) {
	s := newShell(t)
	s.queue("a", nil)
	s.queue("b", nil)
	m := amqp.Publishing{
		Headers: amqp.Table{
			"byte": int8(1), "short": int16(2), "int": int32(3), "long": int64(-4), "float": float32(1.5), "double": 2.5, "text": "int64:5", "bytes": []byte{0, 255},
			"time": time.Unix(1790000000, 0), "nested": amqp.Table{"list": []any{true, nil, "x"}},
		},
		ContentType: "application/octet-stream", DeliveryMode: 1, Priority: 3, CorrelationId: "c", ReplyTo: "r", MessageId: "m", Timestamp: time.Unix(1790000000, 0),
		Type: "T", AppId: "A", Body: []byte("\x00\xff<body>"),
	}
	ch := s.channel()
	if err := ch.PublishWithContext(t.Context(), "", "a", false, false, m); err != nil {
		t.Fatal(err)
	}
	if err := s.broker.Await(t.Context(), func() bool { return len(s.broker.Messages("a")) == 1 }); err != nil {
		t.Fatal(err)
	}
	original := s.broker.Messages("a")[0]
	s.expect("amqpkit receive --ack --output json a > m.ndjson", 0, "")
	s.expect("amqpkit send --ndjson --queue b < m.ndjson", 0, "1 message confirmed\n")
	copied := s.broker.Messages("b")[0]
	copied.Key, copied.Redelivered = original.Key, original.Redelivered
	if got, want := fmt.Sprintf("%#v", copied), fmt.Sprintf("%#v", original); got != want {
		t.Errorf("copied\n%s\nwant\n%s", got, want)
	}
}

func TestFilesAndTextsAreSentAsTheyAre(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	s.write("a.json", "{\"a\":1}\n")
	s.expect("amqpkit send -q q --file a.json --file a.json --count 2", 0, "4 messages confirmed\n")
	if got := s.bodies("q"); got != strings.TrimSpace(strings.Repeat("{\"a\":1}\n ", 4))+"\n" {
		t.Errorf("bodies %q", got)
	}
	s.expect("amqpkit send -q q --file missing.json", 1, `
0 messages confirmed
amqpkit send: open missing.json: no such file or directory
`)
}

func TestMessagesOfNoMoreThanTheLimitAreRead(t *testing.T) {
	s := newShell(t, amqptest.Config{MaxMessageSize: 1 << 30})
	s.queue("q", nil)
	s.write("big.json", strings.Repeat("x", maxBody+1))
	s.expect("amqpkit send -q q --file big.json", 1, `
0 messages confirmed
amqpkit send: big.json is larger than 16,777,216 bytes, the limit of a message; split it
`)
}
