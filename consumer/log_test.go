package consumer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func (l *logbook) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// The first session receives 7 messages, one of them three times; the second session receives 5 more.
func TestRunLogsTheTotalsOfAllSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		first := true
		b := &connections{}
		b.on = func(m method, l *link) {
			if m != consume {
				return
			}
			n := 5
			if first {
				n = 7
				time.AfterFunc(time.Minute, func() { b.broker.CancelConsumers("orders") })
			}
			first = false
			for range n {
				l.deliver(nil)
			}
		}
		calls := 0
		_, end := runOn(t, b, Config{Logger: log.logger(), Prefetch: 20, Workers: 1}, func(context.Context, *Delivery) error {
			switch calls++; calls {
			case 2:
				return Reject(errors.New("no"))
			case 3:
				return RejectRequeue(errors.New("no"))
			case 8:
				return Requeue(0)
			}
			return nil
		})
		time.Sleep(2 * time.Minute)
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
		want := "handled=14 settled=14 acknowledged=11 rejected=1 requeued=1 failed=1 redelivered=2 returned=0 unsettled=0 running=0"
		if log.count(`level=INFO msg="consumer: ended"`) != 1 || log.count(want) != 1 || log.count(`level=INFO msg="consumer: subscribed"`) != 2 {
			t.Errorf("%s\nwant 2 subscriptions and %s", log.text(), want)
		}
	})
}

func TestFailuresToSubscribeAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		c, err := New(connFunc(func(context.Context) (*amqp.Connection, error) { return nil, nil }), Config{
			Queue: "orders", Logger: log.logger(),
			Declare: func(context.Context, *amqp.Connection) (string, error) { return "", errors.New("down") },
		}, nop)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+30*time.Second)
		defer cancel()
		_ = c.Run(ctx)
		if n, repeated := log.count("cannot subscribe"), log.count("repeated="); n != 6 || repeated != 5 {
			t.Errorf("%d lines, %d of them with repeated, want 6 and 5", n, repeated)
		}
	})
}

type traceKey struct{}

// A tracer adds the trace id of a line's ctx, as OpenTelemetry's handler does.
type tracer struct{ slog.Handler }

func (h tracer) Handle(ctx context.Context, r slog.Record) error {
	id, _ := ctx.Value(traceKey{}).(string)
	r.AddAttrs(slog.String("trace_id", id))
	return h.Handler.Handle(ctx, r)
}

func (h tracer) WithAttrs(as []slog.Attr) slog.Handler { return tracer{h.Handler.WithAttrs(as)} }

type loggingConnections struct {
	*connections
	log *slog.Logger
}

func (b loggingConnections) Logger() *slog.Logger { return b.log }

// Config.Logger is not set, so the lines go to the Logger of the Connection.
func TestLogLinesHaveRunsTraceIDAndTheCommonKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		b := loggingConnections{&connections{on: func(m method, l *link) {
			if m == consume {
				l.deliver(nil)
			}
		}}, slog.New(tracer{slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})})}
		c, err := New(b, Config{Queue: "orders"}, func(context.Context, *Delivery) error { return errors.New("boom") })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), traceKey{}, "t1"))
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(500 * time.Millisecond)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		b.close()
		for _, want := range []string{"subscribed", "handler failed", "ended"} {
			if log.count("consumer: "+want) == 0 {
				t.Errorf("no line %q", want)
			}
		}
		for line := range strings.Lines(log.text()) {
			if !strings.Contains(line, "trace_id=t1") || !strings.Contains(line, "queue=orders") || strings.Contains(line, " err=") {
				t.Errorf("a line without trace_id or queue, or with err: %s", line)
			}
		}
		failed := regexp.MustCompile(`msg="consumer: handler failed" queue=orders consumer_tag=orders-\w+ message_id="" attempt=1 delay=1s error=boom`)
		if text := log.text(); !failed.MatchString(text) || !regexp.MustCompile(`subscribed" queue=orders consumer_tag=\S+ role=consuming`).MatchString(text) {
			t.Errorf("%s\nhas none of the common keys", text)
		}
	})
}

// Each of the first 30 subscriptions handles a message and is lost after three seconds, the next ones last.
func TestAFlappingConnectionIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		b := &connections{}
		n := 0
		b.on = func(m method, l *link) {
			if m != consume {
				return
			}
			if n++; n <= 30 {
				l.deliver(nil)
				time.AfterFunc(3*time.Second, func() { b.broker.DropConnections() })
			}
		}
		_, end := runOn(t, b, Config{Logger: log.logger()}, nop)
		check := func(losses, subscriptions int) {
			t.Helper()
			if lost, subscribed := log.count("subscription lost"), log.count("consumer: subscribed"); lost != losses || subscribed != subscriptions {
				t.Errorf("%d losses and %d subscriptions are logged, want %d and %d\n%s", lost, subscribed, losses, subscriptions, log.text())
			}
		}
		time.Sleep(4 * time.Minute)
		check(2, 3) // the first loss, and one with repeated after a minute
		if log.count("repeated=") != 1 {
			t.Errorf("%s\nhas no number of the losses in between", log.text())
		}
		b.broker.DropConnections()
		time.Sleep(time.Second)
		check(3, 4)
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
		if n != 32 {
			t.Errorf("%d subscriptions, want 32", n)
		}
	})
}

func TestRepeatedFailuresAreRecognisedWithoutTheirPortsAndTimes(t *testing.T) {
	reset := func(port int) error {
		return &LostError{Queue: "q", Err: &amqp.Error{Code: 501, Reason: fmt.Sprintf("read tcp 127.0.0.1:%d->127.0.0.1:5672: reset", port)}}
	}
	read := func(port int) error {
		return &SubscribeError{Queue: "q", Err: &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: port}, Err: io.EOF}}
	}
	missing := func(queue string) error {
		return &SubscribeError{Queue: queue, Err: &amqp.Error{Code: 404, Reason: "NOT_FOUND - no queue '" + queue + "'", Server: true}}
	}
	for _, same := range [][2]error{
		{reset(40001), reset(40002)},
		{read(40001), read(40002)},
		{&LostError{Queue: "q", Oldest: time.Second}, &LostError{Queue: "q", Oldest: time.Minute}},
		{missing("q"), missing("q")},
	} {
		if failureKind(same[0]) != failureKind(same[1]) {
			t.Errorf("%v and %v differ", same[0], same[1])
		}
	}
	if failureKind(missing("a")) == failureKind(missing("b")) || failureKind(reset(1)) == failureKind(&LostError{}) {
		t.Error("different failures are equal")
	}
}

// The first subscription is on the shared connection, the second one on a dedicated connection.
func TestFailuresAreLoggedWithTheRoleOfTheirConnection(t *testing.T) {
	for refused, want := range map[error]string{
		nil:                    "consumer: subscription lost; subscribing again",
		errors.New("no route"): "consumer: cannot subscribe; trying again",
	} {
		synctest.Test(t, func(t *testing.T) {
			var log logbook
			b := dedicatedConnections{connections: &connections{}, refuses: refused}
			b.on = func(m method, l *link) {
				switch {
				case m == consume && len(b.calls(consume)) == 1:
					l.fail(541)
				case m == consume && l.dedicated:
					l.cut()
				}
			}
			_, end := runOn(t, b, Config{Logger: log.logger()}, nop)
			time.Sleep(5 * time.Second)
			if err := end(); err != nil {
				t.Errorf("Run = %v", err)
			}
			if log.count(`subscribing again" queue=orders role=consuming`) != 1 || log.count(`msg="`+want+`" queue=orders role=dedicated`) != 1 {
				t.Errorf("%s\nwant one loss of the shared connection, and %q for the dedicated one", log.text(), want)
			}
		})
	}
}
