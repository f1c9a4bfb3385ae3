package connection

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/goleak"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// leavesNothing checks at the end of the test, when everything is closed that it made after this call, that no
// goroutine of it is left. It is not for parallel tests.
func leavesNothing(t *testing.T) {
	t.Helper()
	harness := []goleak.Option{ // the Docker client keeps its connections
		goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	}
	t.Cleanup(func() { goleak.VerifyNone(t, harness...) })
}

// pauses is a backoff.BackOff whose pauses the test ends one by one.
type pauses struct {
	ctx     context.Context
	reached chan struct{}
	over    chan struct{}
}

func newPauses(t *testing.T) *pauses {
	t.Helper()
	return &pauses{ctx: t.Context(), reached: make(chan struct{}), over: make(chan struct{})}
}

func (p *pauses) Reset() {}

func (p *pauses) NextBackOff() time.Duration {
	select {
	case p.reached <- struct{}{}:
	case <-p.ctx.Done():
		return backoff.Stop
	}
	select {
	case <-p.over:
		return 0
	case <-p.ctx.Done():
		return backoff.Stop
	}
}

// The broker falls silent when it has heard who is there: TCP is up, and the handshake half done.
func TestS01SilenceAmidTheHandshakeIsBounded(t *testing.T) {
	leavesNothing(t)
	name := kit.Unique("silent")
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	proxy.ForLinks(func(l amqptest.Link) bool { return l.Name == name }).Blackhole(amqptest.FromBroker)
	for what, cfg := range map[string]struct{ ctx, dial time.Duration }{
		"ctx":         {ctx: 300 * time.Millisecond},
		"DialTimeout": {ctx: 20 * time.Second, dial: 300 * time.Millisecond},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), cfg.ctx)
		start := time.Now()
		_, err := amqpkit.DialConfig(ctx, amqpkit.Config{URLs: []string{proxy.URL()}, Name: name, DialTimeout: cfg.dial})
		took := time.Since(start)
		cancel()
		t.Logf("%s of 300 ms: %v: %v", what, took.Round(time.Millisecond), err)
		if took > 550*time.Millisecond || !errors.Is(err, amqpkit.ErrUnreachable) {
			t.Errorf("%s of 300 ms: Dial = %v after %v, want ErrUnreachable", what, err, took)
		}
		if err := proxy.AwaitLinks(kit.Within(t, time.Second), 0); err != nil {
			t.Errorf("the socket is open: %v", err)
		}
	}
}

func TestS02CutDuringLoginIsNotTakenForARefusal(t *testing.T) {
	for name, c := range map[string]struct {
		frame func(amqptest.Frame) bool
		kind  error
	}{
		"at connection.start-ok": {amqptest.IsMethod(10, 11), amqpkit.ErrLogin},
		"at connection.open":     {amqptest.IsMethod(10, 40), amqpkit.ErrHandshake},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
			p := newPauses(t)
			proxy.CutAt(amqptest.FromClient, amqptest.BeforeFrame, c.frame)
			conn, err := amqpkit.Open(amqpkit.Config{
				URLs: []string{proxy.URL()}, Name: t.Name(), Logger: kit.Logger(t), Backoff: func() backoff.BackOff { return p },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(t.Context()) }()
			for i := range 3 {
				kit.Receive(t, p.reached, "failed attempt")
				var dial *amqpkit.DialError
				if err := conn.Err(); !errors.As(err, &dial) || dial.Kind != c.kind || errors.Is(err, amqpkit.ErrClosed) {
					t.Errorf("cut %d: %v, want kind %q and another try", i+1, err, c.kind)
				}
				if i < 2 {
					proxy.CutAt(amqptest.FromClient, amqptest.BeforeFrame, c.frame)
				}
				p.over <- struct{}{}
			}
			if err := conn.Ready(kit.Within(t, 10*time.Second)); err != nil {
				t.Errorf("after three cuts: %v", err)
			}
		})
	}
}

// limitedUser adds a user who may have one connection, and returns the broker's URL for it.
func limitedUser(t *testing.T, password string) string {
	t.Helper()
	b := kit.NeedsControl(t)
	ctx, user := kit.Within(t, 30*time.Second), kit.Unique("limited")
	t.Cleanup(func() { _, _ = b.Ctl(context.Background(), "delete_user", user) })
	for _, args := range [][]string{
		{"add_user", user, password},
		{"set_permissions", user, ".*", ".*", ".*"},
		{"set_user_limits", user, `{"max-connections": 1}`},
	} {
		if _, err := b.Ctl(ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
	return loginAs(t, b.URL(), user, password)
}

func loginAs(t *testing.T, raw, user, password string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

func TestS03ReachedUserLimitIsTypedAndTriedAgainAfterEachPause(t *testing.T) {
	const attempts, pause = 5, 100 * time.Millisecond
	limited := limitedUser(t, "s3cret")
	first := kit.Connect(t, amqpkit.Config{URLs: []string{limited}})
	tried := make(chan time.Time, 1000)
	second, err := amqpkit.Open(amqpkit.Config{
		URLs: []string{limited}, Name: t.Name(), Logger: kit.Logger(t),
		Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(pause) },
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			tried <- time.Now()
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close(t.Context()) }()
	last := kit.Receive(t, tried, "attempt")
	for range attempts {
		next := kit.Receive(t, tried, "attempt")
		if d := next.Sub(last); d < pause {
			t.Errorf("tried again after %v", d)
		}
		last = next
	}
	var dial *amqpkit.DialError
	if err := second.Err(); !errors.As(err, &dial) || dial.Kind != amqpkit.ErrLimit || strings.Contains(fmt.Sprintf("%+v %#v", err, err), "s3cret") {
		t.Errorf("Err = %v, want kind ErrLimit and no password", err)
	}
	t.Logf("%v", second.Err())
	if err := first.Close(kit.Within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	if err := second.Ready(kit.Within(t, 10*time.Second)); err != nil {
		t.Errorf("when there is room: %v", err)
	}
}

// safeBuffer is what a logger may write into while a test reads.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// The whole life of a Conn whose password holds everything that is reserved in a URL.
func TestS06PasswordShowsInNoLogErrorOrFormatting(t *testing.T) {
	const secret = "s3cr%zz@t#w?th/slash"
	good := limitedUser(t, secret)
	u, err := url.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	wrong := loginAs(t, good, u.User.Username(), secret+"not")
	missing := *u
	missing.Path = "/no-such"
	var out safeBuffer
	log := slog.New(slog.NewMultiHandler(
		slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}),
		slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	show := func(v any) {
		fmt.Fprintf(&out, "%v %+v %#v %s %q\n", v, v, v, v, v)
		log.Info("show", "value", v)
	}

	proxy := amqptest.StartProxy(t, good)
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}, Logger: log})
	show(conn)
	ctx := kit.Within(t, 30*time.Second)
	proxy.Cut()
	if !kit.StopsBeingReady(ctx, conn) {
		t.Fatal("the Conn stayed ready")
	}
	show(conn.Err())
	if err := conn.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{
		good, // which is at its limit
		wrong, missing.String(), "amqp://bob:" + url.QueryEscape(secret) + "@127.0.0.1:1/",
		"amqp://bob:s3cr%zz@h/", "amqp://bob:s3cr@h:bad", "amqp://bob:1#s3cr@h/", "amqp://bob:1?s3cr@h/", "amqp://bob:1/s3cr@h/",
	} {
		cfg := amqpkit.Config{URLs: []string{raw}, Logger: log}
		show(cfg)
		_, err := amqpkit.DialConfig(ctx, cfg)
		if err == nil {
			t.Error("one of the mistakes is none")
		}
		show(err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}
	if s := out.String(); strings.Contains(s, "s3cr") || strings.Contains(s, "slash") {
		t.Errorf("a part of the password shows:\n%s", s)
	} else if lines := strings.Count(s, "\n"); lines < 50 {
		t.Errorf("only %d lines were looked at", lines)
	}
}

func TestS08HeartbeatIsCheckedNegotiatedAndVisible(t *testing.T) {
	for _, cfg := range []amqpkit.Config{
		{Heartbeat: -time.Second},
		{Heartbeat: time.Millisecond},
		{Heartbeat: 1500 * time.Millisecond},
		{Heartbeat: 65536 * time.Second},
		{URLs: []string{"amqp://h?heartbeat=0"}},
	} {
		if cfg.URLs == nil {
			cfg.URLs = []string{"amqp://h"}
		}
		_, err := amqpkit.Open(cfg)
		var field *amqperr.FieldError
		if !errors.As(err, &field) || !strings.Contains(strings.ToLower(field.Field), "heartbeat") || !strings.Contains(field.Fix, "10 s") {
			t.Errorf("Open of Heartbeat %v with %v = %v, want a FieldError", cfg.Heartbeat, cfg.URLs, err)
		}
	}
	for asked, want := range map[string]time.Duration{
		"":                10 * time.Second, // the smaller one of ours and RabbitMQ's 60 s
		"?heartbeat=2":    2 * time.Second,
		"?heartbeat=1000": 60 * time.Second,
	} {
		conn := kit.Connect(t, amqpkit.Config{URLs: []string{kit.Broker(t).URL() + asked}})
		ac, err := conn.PublishConnection(kit.Within(t, 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if got := ac.Config.Heartbeat; got != want {
			t.Errorf("with %q the heartbeat is %v, want %v", asked, got, want)
		}
	}
}
