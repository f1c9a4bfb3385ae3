package connection

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// named returns how many of the broker's connections have the name.
func named(t *testing.T, name string) int {
	t.Helper()
	names, err := kit.Broker(t).Connections(kit.Within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return len(slices.DeleteFunc(names, func(n string) bool { return n != name }))
}

func TestTwoConnectionsAreOpenedWhenFirstNeeded(t *testing.T) {
	kit.NeedsControl(t)
	name := kit.Unique("two")
	var dials atomic.Int32
	conn := kit.Connect(t, amqpkit.Config{Name: name, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	ctx := kit.Within(t, 20*time.Second)
	kit.WaitFor(t, func() bool { return named(t, name) > 0 }) // the broker lists it a moment later
	if n := named(t, name); n != 1 {
		t.Errorf("after Dial the broker has %d connections, want 1", n)
	}
	pub, err := conn.PublishConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("with a publisher only %d connections were dialled, want 1", n)
	}
	con, err := conn.ConsumeConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool { return named(t, name) > 1 })
	if n := named(t, name); n != 2 || pub == con {
		t.Errorf("with both the broker has %d connections, want 2 different ones", n)
	}
	again, err := conn.PublishConnection(ctx)
	if err != nil || again != pub {
		t.Errorf("the session changed without a loss (%v)", err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}
	<-conn.Done()
	kit.WaitFor(t, func() bool { return named(t, name) == 0 })
}

func TestSetupRunsOncePerSessionAloneAndBeforeAnyoneGetsIt(t *testing.T) {
	var running, overlaps, runs atomic.Int32
	var mu sync.Mutex
	done := map[*amqp.Connection]int{}
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}, Setup: func(_ context.Context, ac *amqp.Connection) error {
		if running.Add(1) > 1 {
			overlaps.Add(1)
		}
		defer running.Add(-1)
		ch, err := ac.Channel() // takes a moment
		if err != nil {
			return err
		}
		defer func() { _ = ch.Close() }()
		mu.Lock()
		done[ac]++
		mu.Unlock()
		if runs.Add(1)%3 == 0 {
			return errors.New("not this time") // tried again on a new session
		}
		return nil
	}})
	ctx := kit.Within(t, 30*time.Second)
	last := map[*amqp.Connection]bool{}
	for range 20 {
		var wg sync.WaitGroup
		for _, get := range []func(context.Context) (*amqp.Connection, error){conn.PublishConnection, conn.ConsumeConnection} {
			for range 5 {
				wg.Go(func() {
					ac, err := get(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if done[ac] != 1 {
						t.Errorf("a session was handed out after %d runs of Setup", done[ac])
					}
					last[ac] = true
				})
			}
		}
		wg.Wait()
		pub, err := conn.PublishConnection(ctx)
		if err != nil {
			t.Fatal(err)
		}
		lost := pub.NotifyClose(make(chan *amqp.Error, 1))
		proxy.Cut()
		if reason := <-lost; reason == nil {
			t.Fatal("the connection was closed in good order")
		}
	}
	if n := overlaps.Load(); n > 0 {
		t.Errorf("Setup ran beside itself %d times", n)
	}
	if len(last) < 20 {
		t.Errorf("%d sessions in 20 rounds", len(last))
	}
}

func TestSetupThatCanNeverHealEndsTheConn(t *testing.T) {
	bad := topology.Topology{Queues: []topology.Queue{{Name: strings.Repeat("q", 256)}}}
	conn, err := amqpkit.Open(amqpkit.Config{URLs: []string{kit.Broker(t).URL()}, Setup: bad.Declare, Logger: kit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-conn.Done():
	case <-kit.Within(t, 10*time.Second).Done():
		t.Fatal("the Conn goes on")
	}
	var field *amqperr.FieldError
	if err := conn.Err(); !errors.Is(err, amqpkit.ErrClosed) || !errors.Is(err, amqpkit.ErrSetup) || !errors.As(err, &field) {
		t.Errorf("Err = %v", err)
	}
}

func TestSetupThatHangsIsBounded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := amqpkit.DialConfig(ctx, amqpkit.Config{URLs: []string{kit.Broker(t).URL()}, Setup: func(_ context.Context, ac *amqp.Connection) error {
		return <-ac.NotifyClose(make(chan *amqp.Error, 1)) // knows no ctx
	}})
	if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, amqpkit.ErrSetup) || took > 350*time.Millisecond {
		t.Errorf("Dial = %v after %v", err, took)
	}
}

func TestS03EachMistakeGivesOneTypedActionableErrorWithoutTheSecret(t *testing.T) {
	good := kit.Broker(t).URL()
	with := func(change func(*url.URL)) string {
		u, err := url.Parse(good)
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return u.String()
	}
	wrong := with(func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "s3cret") })
	missing := with(func(u *url.URL) { u.Path = "/no-such" })
	queue := kit.QuorumQueue(t, nil)
	conflict := topology.Topology{Queues: []topology.Queue{{Name: queue, Type: topology.Classic}}}
	for name, c := range map[string]struct {
		cfg    amqpkit.Config
		is     error
		advice string
	}{
		"wrong password":    {amqpkit.Config{URLs: []string{wrong}}, amqpkit.ErrLogin, "check user and password"},
		"missing vhost":     {amqpkit.Config{URLs: []string{missing}}, amqpkit.ErrVhost, "rabbitmqctl add_vhost"},
		"refused port":      {amqpkit.Config{URLs: []string{"amqp://guest:s3cret@127.0.0.1:1"}}, amqpkit.ErrUnreachable, "check that RabbitMQ runs there"},
		"conflicting queue": {amqpkit.Config{URLs: []string{good}, Setup: conflict.Declare}, amqpkit.ErrSetup, "x-queue-type is quorum on the broker and classic in the declaration"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			conn, err := amqpkit.DialConfig(kit.Within(t, 20*time.Second), c.cfg)
			var dial *amqpkit.DialError
			if conn != nil || !errors.Is(err, c.is) || !errors.As(err, &dial) || !strings.Contains(err.Error(), c.advice) || strings.Contains(fmt.Sprintf("%+v %#v", err, err), "s3cret") {
				t.Errorf("Dial = %v, want kind %q and the words %q", err, c.is, c.advice)
			}
			var conflict *topology.ConflictError
			if name == "conflicting queue" && !errors.As(err, &conflict) {
				t.Errorf("%v holds no *topology.ConflictError", err)
			}
			t.Logf("%v: %v", time.Since(start).Round(time.Millisecond), err)
		})
	}
	_, err := amqpkit.Dial(t.Context(), "amqp://guest:s3cr%zzet@127.0.0.1/")
	var field *amqperr.FieldError
	if !errors.As(err, &field) || strings.Contains(err.Error(), "s3cr") {
		t.Errorf("malformed URL: %v", err)
	}
}

func TestCredentialsAreAskedOnEveryDial(t *testing.T) {
	var asked atomic.Int32
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	u, err := url.Parse(proxy.URL())
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	login := amqpkit.Credentials{Username: u.User.Username(), Password: password}
	u.User = url.UserPassword("nobody", "wrong")
	conn := kit.Connect(t, amqpkit.Config{
		URLs: []string{u.String()},
		Credentials: func(context.Context) (amqpkit.Credentials, error) {
			asked.Add(1)
			return login, nil
		},
	})
	ctx := kit.Within(t, 20*time.Second)
	for i := range 5 {
		if _, err := conn.PublishConnection(ctx); err != nil {
			t.Fatal(err)
		}
		if n := int(asked.Load()); n != i+1 {
			t.Fatalf("asked %d times in %d sessions", n, i+1)
		}
		proxy.Cut()
		kit.WaitFor(t, func() bool { return int(asked.Load()) == i+2 })
	}
}

// The second session has nothing of the first: no channel, no tag.
func TestLostConnectionMeansANewSessionWithinMilliseconds(t *testing.T) {
	kit.NeedsControl(t)
	conn := kit.Connect(t, amqpkit.Config{Name: kit.Unique("lost")})
	ctx := kit.Within(t, 60*time.Second)
	var gaps []time.Duration
	for range 15 {
		old, err := conn.PublishConnection(ctx)
		if err != nil {
			t.Fatal(err)
		}
		lost := old.NotifyClose(make(chan *amqp.Error, 1))
		var reason *amqp.Error
		for closed := false; !closed; { // the broker may not know of a connection that is a moment old
			if err := kit.Broker(t).CloseConnections(ctx, "operator"); err != nil {
				t.Fatal(err)
			}
			select {
			case reason = <-lost:
				closed = true
			case <-time.After(100 * time.Millisecond):
			}
		}
		if reason == nil || reason.Code != amqp.ConnectionForced {
			t.Fatalf("lost for %v, want 320", reason)
		}
		start := time.Now()
		fresh, err := conn.PublishConnection(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if fresh == old {
			t.Fatal("a lost session was handed out")
		}
		gaps = append(gaps, time.Since(start))
	}
	slices.Sort(gaps)
	t.Logf("from loss to the next session: median %v, longest %v", gaps[len(gaps)/2], gaps[len(gaps)-1])
	if gaps[len(gaps)/2] > 50*time.Millisecond {
		t.Errorf("median %v, want at most 50 ms", gaps[len(gaps)/2])
	}
}

func TestRawChannelIsOnTheConsumingConnection(t *testing.T) {
	conn := kit.Connect(t, amqpkit.Config{})
	ctx := kit.Within(t, 20*time.Second)
	ch, err := conn.Channel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	q, err := ch.QueueDeclare("", false, true, true, false, nil) // exclusive to its connection
	if err != nil {
		t.Fatal(err)
	}
	con, err := conn.ConsumeConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	other, err := con.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.QueueDeclarePassive(q.Name, false, true, true, false, nil); err != nil {
		t.Errorf("the exclusive queue is not on the consuming connection: %v", err)
	}
}

func TestS51ThousandForcedReconnectsLeaveNothingBehind(t *testing.T) {
	kit.NeedsControl(t)
	queue := kit.QuorumQueue(t, nil)
	name := kit.Unique("thousand")
	proxy := amqptest.StartProxy(t, kit.Broker(t).URL())
	ctx := kit.Within(t, 4*time.Minute)
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	beforeGoroutines, beforeFiles := runtime.NumGoroutine(), open()
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}, Name: name})
	p := kit.NewProducer(t, conn, producer.Config{})
	var upGoroutines, upFiles int
	for i := range 1000 {
		ac, err := conn.ConsumeConnection(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ac.NotifyClose(make(chan *amqp.Error)) // which nobody reads
		ac.NotifyBlocked(make(chan amqp.Blocking))
		if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
			t.Fatalf("after %d reconnects: %v", i, err)
		}
		if i == 0 {
			upGoroutines, upFiles = runtime.NumGoroutine(), open()
		}
		if i%100 == 50 {
			if err := kit.Broker(t).CloseConnections(ctx, "operator"); err != nil {
				t.Fatal(err)
			}
		}
		proxy.Cut()
	}
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool { return runtime.NumGoroutine() <= upGoroutines && open() <= upFiles })
	kit.WaitFor(t, func() bool { return named(t, name) == 2 })
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}
	kit.WaitFor(t, func() bool { return named(t, name) == 0 })
	proxy.Cut()
	kit.WaitFor(t, func() bool { return runtime.NumGoroutine() <= beforeGoroutines && open() <= beforeFiles })
}

func TestSessionsThatDieAtOnceDoNotMakeAHotLoop(t *testing.T) {
	var sessions atomic.Int32
	conn := kit.Connect(t, amqpkit.Config{Setup: func(_ context.Context, ac *amqp.Connection) error {
		if sessions.Add(1) > 1 {
			time.AfterFunc(time.Millisecond, func() { _ = ac.Close() }) // just after it is up
		}
		return nil
	}})
	first, err := conn.ConsumeConnection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	<-kit.Within(t, 2*time.Second).Done()
	if n := sessions.Load(); n < 5 || n > 80 {
		t.Errorf("%d sessions in 2 s: want it to go on, at some 20 a second", n)
	}
}

func TestTheSecondConnectionIsSeenInErr(t *testing.T) {
	var dials atomic.Int32
	hang := make(chan struct{})
	conn := kit.Connect(t, amqpkit.Config{Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 2 {
			<-hang
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	ctx := kit.Within(t, 20*time.Second)
	if _, err := conn.PublishConnection(ctx); err != nil {
		t.Fatal(err)
	}
	changed := conn.Changed()
	if err := conn.Err(); err != nil {
		t.Errorf("with one connection Err = %v", err)
	}
	asked := make(chan error, 1)
	go func() {
		_, err := conn.ConsumeConnection(ctx)
		asked <- err
	}()
	select {
	case <-changed:
	case <-ctx.Done():
		t.Fatal("the second connection changed nothing")
	}
	if err := conn.Err(); err == nil || errors.Is(err, amqpkit.ErrClosed) {
		t.Errorf("Err = %v while the second connection is dialled", err)
	}
	close(hang)
	if err := <-asked; err != nil {
		t.Error(err)
	}
	if err := conn.Ready(ctx); err != nil {
		t.Error(err)
	}
}
