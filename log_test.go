package amqpkit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
)

// A journal collects log lines.
type journal struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.Write(b)
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// lines returns the lines with a message, or all of them.
func (j *journal) lines(t *testing.T, msg string) (lines []map[string]any) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for text := range strings.Lines(j.out.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		if msg == "" || line["msg"] == "amqpkit: "+msg {
			lines = append(lines, line)
		}
	}
	return lines
}

// roles returns how many lines with a message each role has.
func (j *journal) roles(t *testing.T, msg string) map[any]int {
	t.Helper()
	roles := map[any]int{}
	for _, line := range j.lines(t, msg) {
		roles[line["role"]]++
	}
	return roles
}

func TestEveryLineNamesTheConnectionAndItsRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		b := inMemory(t)
		conn := open(t, b, amqpkit.Config{Name: "billing", Logger: log.logger()})
		if conn.Logger() == nil || conn.Logger() == slog.Default() {
			t.Error("Logger does not return the Logger of the Config")
		}
		publishing(t, conn)
		consuming(t, conn)
		for range 2 { // one is lost, one is closed
			if _, err := conn.DedicatedConnection(within(t)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			if len(log.lines(t, "connection lost")) == 0 {
				lose(t, consuming(t, conn), b.DropConnections)
			}
			time.Sleep(2 * time.Second)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
		for _, line := range log.lines(t, "") {
			if line["connection"] != "billing" || line["role"] == nil || strings.Contains(line["msg"].(string), "guest:guest") {
				t.Errorf("line %v", line)
			}
		}
		for msg, want := range map[string][]int{ // publishing, consuming, dedicated
			"connected":         {2, 2, 2},
			"connection lost":   {1, 1, 1},
			"connection closed": {1, 1, 1},
		} {
			roles := log.roles(t, msg)
			if got := []int{roles["publishing"], roles["consuming"], roles["dedicated"]}; !slices.Equal(got, want) {
				t.Errorf("%s: %v lines, want %v", msg, got, want)
			}
		}
		for _, line := range log.lines(t, "connected") {
			if line["url"] == "" || line["broker"] == "" {
				t.Errorf("line %v lacks the URL or the version of the broker", line)
			}
		}
		for _, line := range log.lines(t, "connection closed") {
			if want := map[any]float64{"publishing": 2, "consuming": 2, "dedicated": 1}[line["role"]]; line["sessions"] != want {
				t.Errorf("%v connection: sessions = %v, want %v", line["role"], line["sessions"], want)
			}
		}
	})
}

// traced is a Handler that adds the trace of a line's ctx.
type traced struct{ slog.Handler }

type traceKey struct{}

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	trace, _ := ctx.Value(traceKey{}).(string)
	r.AddAttrs(slog.String("trace", trace))
	return h.Handler.Handle(ctx, r)
}

func TestALineHasTheContextOfTheCallThatCausedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		b := inMemory(t)
		trace := func(id string) context.Context {
			ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), traceKey{}, id), time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		var setup []any
		conn, err := amqpkit.DialConfig(trace("dial"), amqpkit.Config{
			URLs:   []string{b.URL()},
			Dialer: b.Dial,
			Logger: slog.New(traced{log.logger().Handler()}),
			Setup: func(ctx context.Context, _ *amqp.Connection) error {
				setup = append(setup, ctx.Value(traceKey{}))
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // the ctx of DialConfig has ended
		if _, err := conn.ConsumeConnection(trace("consume")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.PublishConnection(trace("publish")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		b.DropConnections()
		time.Sleep(2 * time.Second) // a later session was not caused by these calls
		if err := conn.Close(trace("close")); err != nil {
			t.Error(err)
		}
		if want := []any{"dial", "publish", nil, nil}; !slices.Equal(setup, want) {
			t.Errorf("traces of the runs of Setup: %v, want %v", setup, want)
		}
		var got []string
		for _, line := range log.lines(t, "") {
			got = append(got, fmt.Sprintf("%s %s %s", strings.TrimPrefix(line["msg"].(string), "amqpkit: "), line["role"], line["trace"]))
		}
		slices.Sort(got)
		if want := []string{
			"connected consuming ", "connected consuming dial", "connected publishing ", "connected publishing publish",
			"connection closed consuming close", "connection closed publishing close",
			"connection lost consuming ", "connection lost publishing ",
		}; !slices.Equal(got, want) {
			t.Errorf("lines %q, want %q", got, want)
		}
	})
}

func TestALineBeforeTheRoleIsKnownHasNoRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		b := inMemory(t)
		conn, err := amqpkit.DialConfig(within(t), amqpkit.Config{URLs: []string{b.URL()}, Dialer: b.Dial, Logger: log.logger()})
		if err != nil {
			t.Fatal(err)
		}
		expect := func(when string, want ...string) { // message and role
			t.Helper()
			var got []string
			for _, line := range log.lines(t, "") {
				text := strings.TrimPrefix(line["msg"].(string), "amqpkit: ")
				if role, ok := line["role"]; ok {
					text += " as " + role.(string)
				}
				got = append(got, text)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: lines %q, want %q", when, got, want)
			}
		}
		time.Sleep(2 * time.Second)
		expect("without a publisher or consumer")
		b.DropConnections()
		time.Sleep(2 * time.Second)
		expect("after a loss", "connection lost")
		consuming(t, conn)
		consuming(t, conn)
		expect("with a consumer", "connection lost", "connected as consuming")
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
		expect("after Close", "connection lost", "connected as consuming", "connection closed as consuming")
	})
}

func TestWarningsContinueOnceAMinuteWhileAnOutageLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		open(t, nil, amqpkit.Config{URLs: []string{"amqp://h/"}, Logger: log.logger(), Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no route to host")
		}})
		time.Sleep(3*time.Minute + 30*time.Second)
		lines := log.lines(t, "cannot connect, trying again")
		if len(lines) != 4 {
			t.Fatalf("%d warnings, want 4: %v", len(lines), lines)
		}
		for i, line := range lines {
			if n, _ := line["repeated"].(float64); (n > 0) != (i > 0) {
				t.Errorf("warning %d: repeated = %v", i, line["repeated"])
			}
		}
	})
}

func TestABlockedConnectionIsLoggedOnceAMinuteAndItsEndIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		b := inMemory(t)
		conn := open(t, b, amqpkit.Config{Logger: log.logger()})
		ch, err := publishing(t, conn).Channel()
		if err != nil {
			t.Fatal(err)
		}
		b.Block("low on memory")
		if err := ch.PublishWithContext(t.Context(), "", "nowhere", false, false, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*time.Minute + 30*time.Second)
		for i := range 2 { // while it lasts, and later
			blocked, over := log.lines(t, "the broker blocks publishing"), log.lines(t, "the broker accepts messages again")
			if len(blocked) != 4 || len(over) != i {
				t.Errorf("%d warnings, %d lines of the end, want 4 and %d", len(blocked), len(over), i)
			}
			for _, line := range blocked {
				if line["reason"] != "low on memory" || line["role"] != "publishing" {
					t.Errorf("line %v", line)
				}
			}
			b.Unblock()
			time.Sleep(3 * time.Minute)
		}
	})
}

func TestALoopOfLossesIsLoggedOnceAMinuteAndItsEndIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		b := inMemory(t)
		conn := open(t, b, amqpkit.Config{Logger: log.logger()})
		publishing(t, conn)
		began := time.Now()
		for time.Since(began) < 70*time.Second {
			lose(t, publishing(t, conn), b.DropConnections)
			publishing(t, conn)
			time.Sleep(time.Second / 2)
		}
		publishing(t, conn)
		if lost, up := log.lines(t, "connection lost"), log.lines(t, "connected"); len(lost) != 2 || lost[1]["repeated"] == nil || len(up) != 1 {
			t.Errorf("lines during the loop: %v, %v", lost, up)
		}
		time.Sleep(2 * time.Second)
		if up := log.lines(t, "connected"); len(up) != 2 {
			t.Errorf("lines after the loop: %v", up)
		}
	})
}
