package producer_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/producer"
)

func TestFailFastRefusesMessagesWithoutAConnectionAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := start(t, producer.Config{FailFast: true})
		if err := p.Publish(t.Context(), "", "orders", amqp.Publishing{Body: []byte("a")}); err != nil {
			t.Fatalf("Publish = %v with a connection", err)
		}
		b.HoldConfirms()
		sent := publish(t, b, p, "b")
		b.Stop()
		synctest.Wait()
		began := time.Now()
		for name, call := range map[string]func() error{
			"Publish":      func() error { return p.Publish(t.Context(), "", "orders", amqp.Publishing{}) },
			"PublishJSON":  func() error { return p.PublishJSON(t.Context(), "", "orders", 1) },
			"PublishAsync": func() error { _, err := p.PublishAsync(t.Context(), "", "orders", amqp.Publishing{}); return err },
			"PublishAll":   func() error { return p.PublishAll(t.Context(), []producer.Message{{Key: "orders"}})[0] },
			"Republish":    func() error { return p.Republish(t.Context(), "", "orders", amqp.Publishing{}) },
		} {
			if err := call(); !errors.Is(err, producer.ErrNotPublished) || producer.MaybeDelivered(err) || !strings.Contains(err.Error(), "there is no connection") {
				t.Errorf("%s = %v, want ErrNotPublished because there is no connection", name, err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("refused after %v, want at once", took)
		}
		if err := p.Err(); err == nil || !strings.HasPrefix(err.Error(), "producer: not ready: ") {
			t.Errorf("Err = %v without a connection", err)
		}
		b.ReleaseConfirms()
		if err := b.Start(); err != nil {
			t.Fatal(err)
		}
		if err := sent.Wait(t.Context()); err != nil {
			t.Errorf("a sent message: %v, want it sent again", err)
		}
		if err := errors.Join(p.Ready(t.Context()), p.Err()); err != nil {
			t.Error(err)
		}
		if err := p.Publish(t.Context(), "", "orders", amqp.Publishing{Body: []byte("c")}); err != nil {
			t.Errorf("Publish = %v with a new connection", err)
		}
		if got := stored(b); !slices.Equal(got, []string{"a", "b", "b", "c"}) {
			t.Errorf("stored %q", got)
		}
	})
}

func TestFailFastRefusesMessagesWhileTheBrokerBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := start(t, producer.Config{FailFast: true})
		b.Block("low on memory")
		first, err := p.PublishAsync(t.Context(), "", "orders", amqp.Publishing{Body: []byte("a")}) // after which it blocks
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		err = p.Publish(t.Context(), "", "orders", amqp.Publishing{Body: []byte("b")})
		if !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, amqperr.ErrBlocked) || time.Since(began) > 0 {
			t.Errorf("Publish = %v after %v, want ErrNotPublished and ErrBlocked at once", err, time.Since(began))
		}
		if err := p.Err(); !errors.Is(err, amqperr.ErrBlocked) {
			t.Errorf("Err = %v, want ErrBlocked", err)
		}
		b.Unblock()
		if err := first.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait() // the Conn has processed connection.unblocked too
		if err := p.Publish(t.Context(), "", "orders", amqp.Publishing{Body: []byte("c")}); err != nil {
			t.Error(err)
		}
		if got := stored(b); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("stored %q", got)
		}
	})
}

func TestReadyWaitsUntilMessagesCanBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := start(t, producer.Config{})
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := b.Connections()[0].Channels; got == 0 {
			t.Error("no channel is open")
		}
		b.Block("low on disk")
		first, err := p.PublishAsync(t.Context(), "", "orders", amqp.Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.Ready(ctx); !errors.Is(err, amqperr.ErrBlocked) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, producer.ErrNotPublished) {
			t.Errorf("Ready = %v, want the end of ctx and ErrBlocked", err)
		}
		ready := make(chan error, 1)
		go func() { ready <- p.Ready(t.Context()) }()
		synctest.Wait()
		b.Unblock()
		if err := errors.Join(<-ready, first.Wait(t.Context()), p.Close(t.Context())); err != nil {
			t.Error(err)
		}
		if err := p.Ready(t.Context()); !errors.Is(err, producer.ErrClosed) {
			t.Errorf("Ready = %v after Close", err)
		}
		if err := p.Err(); !errors.Is(err, producer.ErrClosed) {
			t.Errorf("Err = %v after Close", err)
		}
	})
}

func TestPublishJSONSetsTheContentTypeAndNamesWhatCannotBeEncoded(t *testing.T) {
	b, p := start(t, producer.Config{})
	if err := p.PublishJSON(t.Context(), "", "orders", map[string]int{"n": 1}); err != nil {
		t.Fatal(err)
	}
	if m := b.Messages("orders")[0]; string(m.Body) != `{"n":1}` || m.ContentType != "application/json" || m.DeliveryMode != amqp.Persistent || m.MessageID == "" {
		t.Errorf("stored %+v", m)
	}
	err := p.PublishJSON(t.Context(), "", "orders", make(chan int))
	var field *amqperr.FieldError
	var unsupported *json.UnsupportedTypeError
	if !errors.Is(err, producer.ErrNotPublished) || !errors.As(err, &field) || field.Field != "Body" || !errors.As(err, &unsupported) {
		t.Errorf("a channel: %v, want ErrNotPublished, the field and the cause", err)
	}
}

// logged records the attributes of log lines by their message.
type logged struct{ lines chan slog.Record }

// traceKey is the key of a number in a ctx, which log lines have as their attribute trace.
type traceKey struct{}

func (l logged) Enabled(context.Context, slog.Level) bool { return true }
func (l logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logged) WithGroup(string) slog.Handler            { return l }
func (l logged) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	if id, ok := ctx.Value(traceKey{}).(int); ok {
		r.AddAttrs(slog.Int("trace", id))
	}
	l.lines <- r
	return nil
}

// source is a Connection with a Logger.
type source struct {
	producer.Connection
	logger *slog.Logger
}

func (s source) Logger() *slog.Logger { return s.logger }

func TestCloseLogsTheTotalsToTheLoggerOfTheConnection(t *testing.T) {
	b, conn := dial(t)
	lines := make(chan slog.Record, 10)
	p, err := producer.New(source{conn, slog.New(logged{lines})}, producer.Config{NoResend: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := p.Publish(t.Context(), "", "orders", amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
	}
	b.NackNext(1)
	_ = p.Publish(t.Context(), "", "orders", amqp.Publishing{})
	_ = p.Publish(t.Context(), "", "nowhere", amqp.Publishing{})
	_ = p.Publish(t.Context(), "", "orders", amqp.Publishing{Expiration: "soon"})
	b.HoldConfirms()
	lost := publish(t, b, p, "m")
	b.DropConnections()
	_ = lost.Wait(t.Context())
	b.ReleaseConfirms()
	if err := errors.Join(p.Ready(t.Context()), p.Close(context.WithValue(t.Context(), traceKey{}, 7)), p.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	close(lines)
	want := map[string]int64{"published": 3, "returned": 1, "nacked": 1, "unconfirmed": 1, "not_published": 1, "trace": 7}
	for r := range lines {
		if r.Message != "producer: closed" {
			continue
		}
		r.Attrs(func(a slog.Attr) bool {
			if got := a.Value.Int64(); got != want[a.Key] {
				t.Errorf("%s = %d, want %d", a.Key, got, want[a.Key])
			}
			delete(want, a.Key)
			return true
		})
	}
	if len(want) > 0 || p.Logger() == slog.Default() {
		t.Errorf("missing in the log: %v", want)
	}
}

// A lateConnection has no session until up is set. run's wait for it ends only when release is closed, as if its
// goroutine were scheduled late.
type lateConnection struct {
	*amqpkit.Conn
	up      atomic.Bool
	release chan struct{}
}

func (c *lateConnection) PublishConnection(ctx context.Context) (*amqp.Connection, error) {
	if ctx.Err() == nil {
		select {
		case <-c.release:
		case <-ctx.Done():
		}
	}
	if c.up.Load() {
		return c.Conn.PublishConnection(ctx)
	}
	return nil, context.Cause(ctx)
}

func TestFailFastAcceptsMessagesAsSoonAsThereIsAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conn := dial(t)
		late := &lateConnection{Conn: conn, release: make(chan struct{})}
		p, err := producer.New(late, producer.Config{FailFast: true, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Ready(ctx); err == nil { // run keeps waiting for the connection
			t.Fatal("Ready without a connection returned nil")
		}
		if err := p.Publish(t.Context(), "", "orders", amqp.Publishing{}); !errors.Is(err, producer.ErrNotPublished) {
			t.Errorf("Publish without a connection = %v", err)
		}
		late.up.Store(true)
		time.AfterFunc(time.Millisecond, func() { close(late.release) })
		if err := p.Err(); err != nil {
			t.Errorf("Err = %v with a connection", err)
		}
		if err := errors.Join(p.Publish(t.Context(), "", "orders", amqp.Publishing{}), p.Close(t.Context())); err != nil {
			t.Errorf("Publish with a connection: %v", err)
		}
	})
}
