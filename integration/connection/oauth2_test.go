//nolint:thelper // the functions are tests, which TestS98CredentialsThatChange runs
package connection

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

// checkExpired fails the test unless the broker closed a session at the expiry.
func checkExpired(t *testing.T, reason *amqp.Error, expiry time.Time) {
	t.Helper()
	if reason == nil || reason.Code != amqp.ConnectionForced || !strings.Contains(reason.Reason, "credential expired") {
		t.Errorf("the session ended with %v, want the broker's word that its credentials expired", reason)
	}
	if late := time.Since(expiry); late < -100*time.Millisecond || late > 3*time.Second {
		t.Errorf("the session ended %v after the expiry", late)
	}
}

// endsAtExpiry waits until the token with which a session logged in expires, and reports whether the broker closed the session
// for it. RabbitMQ 4.3 does. RabbitMQ 4.0 keeps the connection and refuses to publish or declare on it (403) until the
// token is renewed.
func (s *source) endsAtExpiry(t *testing.T, conn *amqpkit.Conn, ac *amqp.Connection, n int) (closed bool) {
	t.Helper()
	if s.AtLeast(4, 3) {
		checkExpired(t, lost(t, end(ac)), s.expiry(n))
		return true
	}
	select {
	case reason := <-end(ac):
		t.Errorf("the session was lost: %v", reason)
	case <-time.After(time.Until(s.expiry(n).Add(time.Second))):
	}
	// A channel caches permissions for up to 15 s. This one is new.
	p := kit.NewProducer(t, conn, producer.Config{AllowUnroutable: true, Logger: s.logger(t)})
	err := p.Publish(kit.Within(t, 20*time.Second), "amq.fanout", "", amqp.Publishing{})
	if refused, ok := errors.AsType[*amqp.Error](err); !ok || refused.Code != amqp.AccessRefused || !strings.Contains(refused.Reason, "expired") {
		t.Errorf("publishing failed with %v, want the broker's refusal of an expired token", err)
	}
	if ac.IsClosed() || session(t, conn) != ac {
		t.Error("the session was replaced")
	}
	return false
}

// publishes waits until conn can publish, and returns the session on which it does.
func (s *source) publishes(t *testing.T, conn *amqpkit.Conn) *amqp.Connection {
	t.Helper()
	p := kit.NewProducer(t, conn, producer.Config{AllowUnroutable: true, Logger: s.logger(t)})
	kit.WaitFor(t, func() bool {
		return p.Publish(kit.Within(t, 20*time.Second), "amq.fanout", "", amqp.Publishing{}) == nil
	})
	return session(t, conn)
}

// Two connections outlive two tokens each; the second renewal comes while the broker blocks publishing, so that it does
// not read: the tests beside it publish before that, or wait.
func renewsOnTheLivingConnections(t *testing.T, b *secured) {
	s := b.source(asItIs, 6*time.Second, 6*time.Second, 14*time.Second)
	conn, publishing := s.connect(t, amqpkit.Config{})
	ctx := kit.Within(t, 60*time.Second)
	consuming, err := conn.ConsumeConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.await(t, 1) // the second connection's

	ch, err := conn.Channel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	queue := kit.Unique("renewed")
	if _, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
		t.Fatal(err)
	}
	p := kit.NewProducer(t, conn, producer.Config{Logger: b.logger(t)})
	handled := make(chan string, 10)
	c, err := consumer.New(conn, consumer.Config{Queue: queue, Logger: b.logger(t)}, func(_ context.Context, d *consumer.Delivery) error {
		handled <- string(d.Body)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	runCtx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Run(runCtx); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })

	arrives := func(body string) {
		t.Helper()
		select {
		case got := <-handled:
			if got != body {
				t.Fatalf("message %s arrived instead of %s", got, body)
			}
		case <-ctx.Done():
			t.Fatalf("message %s did not arrive", body)
		}
	}
	// goOn publishes and consumes until then.
	n := 0
	goOn := func(then time.Time) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for last := false; !last; n++ {
			last = time.Now().After(then)
			body := fmt.Sprint(n)
			if err := p.Publish(ctx, "", queue, amqp.Publishing{Body: []byte(body)}); err != nil {
				t.Fatal(err)
			}
			arrives(body)
			<-tick.C
		}
	}
	goOn(s.expiry(1).Add(500 * time.Millisecond))

	if err := b.MemoryAlarm(ctx, true); err != nil {
		t.Fatal(err)
	}
	waiting, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{Body: []byte("blocked")})
	if err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool { return conn.Blocked() != nil })
	s.await(t, 5) // both connections' second renewal
	if err := b.MemoryAlarm(ctx, false); err != nil {
		t.Fatal(err)
	}
	if err := waiting.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	arrives("blocked")
	goOn(s.expiry(3).Add(500 * time.Millisecond))

	_, _ = fmt.Fprintf(b, "%v %+v %#v\n", conn, conn, conn.Err())
	after, err := conn.ConsumeConnection(ctx)
	if err != nil || after != consuming || session(t, conn) != publishing {
		t.Errorf("a session was replaced (%v)", err)
	}
}

func closesAtTheExpiry(t *testing.T, b *secured) {
	s := b.source(func(_ context.Context, _ int, c *amqpkit.Credentials) error {
		c.Expires = time.Time{}
		return nil
	}, 3*time.Second)
	conn, ac := s.connect(t, amqpkit.Config{})
	if closed := s.endsAtExpiry(t, conn, ac, 0); closed && session(t, conn) == ac {
		t.Error("the lost session was handed out")
	}
}

var errNoToken = errors.New("no token now")

func triesAgainBeforeTheExpiry(t *testing.T, b *secured) {
	s := b.source(func(_ context.Context, n int, _ *amqpkit.Credentials) error {
		if n == 1 {
			return errNoToken
		}
		return nil
	}, 12*time.Second)
	conn, ac := s.connect(t, amqpkit.Config{})
	s.await(t, 2)
	if left := time.Until(s.expiry(0)); left < 0 {
		t.Errorf("the second try came %v after the expiry", -left)
	}
	select {
	case reason := <-end(ac):
		t.Errorf("the session was lost: %v", reason)
	case <-time.After(time.Until(s.expiry(0).Add(time.Second))):
	}
	if session(t, conn) != ac {
		t.Error("the session was replaced")
	}
}

func comesBackWithTheNewestToken(t *testing.T, b *secured) {
	repaired := make(chan struct{})
	s := b.source(func(_ context.Context, n int, _ *amqpkit.Credentials) error {
		select {
		case <-repaired:
		default:
			if n > 0 {
				return errNoToken
			}
		}
		return nil
	}, 4*time.Second)
	conn, ac := s.connect(t, amqpkit.Config{})
	closed := s.endsAtExpiry(t, conn, ac, 0)
	if closed {
		kit.WaitFor(t, func() bool { return errors.Is(conn.Err(), amqpkit.ErrCredentials) && errors.Is(conn.Err(), errNoToken) })
	}
	close(repaired)
	began := time.Now()
	if next := s.publishes(t, conn); (next != ac) != closed {
		t.Errorf("the session was replaced: %v, want %v", next != ac, closed)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it came back %v after the provider", took)
	}
}

func takesANewSessionForAnotherUser(t *testing.T, b *secured) {
	s := b.source(func(_ context.Context, n int, c *amqpkit.Credentials) error {
		if n > 0 {
			c.Username, c.Password = "another", b.token("shipping", c.Expires)
		}
		return nil
	}, 6*time.Second, time.Minute)
	conn, ac := s.connect(t, amqpkit.Config{})
	if reason := lost(t, end(ac)); reason != nil && reason.Server {
		t.Errorf("the broker ended the session: %v", reason)
	}
	if late := time.Since(s.expiry(0)); late > 0 {
		t.Errorf("the session ended %v after the expiry", late)
	}
	checkUser(t, conn, "shipping")
}

func takesANewSessionForAnotherSubject(t *testing.T, b *secured) {
	s := b.source(func(_ context.Context, n int, c *amqpkit.Credentials) error {
		if n > 0 {
			c.Password = b.token("shipping", c.Expires)
		}
		return nil
	}, 6*time.Second, time.Minute)
	conn, ac := s.connect(t, amqpkit.Config{})
	if reason := lost(t, end(ac)); reason == nil || reason.Code != amqp.NotAllowed {
		t.Errorf("the session ended with %v, want the broker to refuse the new token", reason)
	}
	checkUser(t, conn, "shipping")
}

func leavesAHangingProvider(t *testing.T, b *secured) {
	left := make(chan error, 1)
	s := b.source(func(ctx context.Context, n int, _ *amqpkit.Credentials) error {
		if n == 1 {
			<-ctx.Done()
			left <- ctx.Err()
			return ctx.Err()
		}
		return nil
	}, 4*time.Second)
	conn, ac := s.connect(t, amqpkit.Config{})
	want := context.Canceled // at its session's end
	closed := s.endsAtExpiry(t, conn, ac, 0)
	if !closed {
		want = context.DeadlineExceeded // RabbitMQ 4.0: after ten seconds, and the next answer renews the session
	}
	if next := s.publishes(t, conn); (next != ac) != closed {
		t.Errorf("the session was replaced: %v, want %v", next != ac, closed)
	}
	if err := <-left; !errors.Is(err, want) {
		t.Errorf("the provider's ctx ended with %v, want %v", err, want)
	}
}

func closeInterruptsTheProvider(t *testing.T, b *secured) {
	asked := make(chan struct{})
	s := b.source(func(ctx context.Context, n int, _ *amqpkit.Credentials) error {
		if n == 1 {
			close(asked)
			<-ctx.Done()
		}
		return ctx.Err()
	}, 4*time.Second)
	conn, _ := s.connect(t, amqpkit.Config{})
	<-asked
	began := time.Now()
	if err := conn.Close(kit.Within(t, 500*time.Millisecond)); err != nil || time.Since(began) > 750*time.Millisecond {
		t.Errorf("Close = %v after %v", err, time.Since(began))
	}
}

func closeInterruptsTheUpdate(t *testing.T, b *secured) {
	proxy := amqptest.StartProxy(t, b.amqp())
	s := b.source(func(_ context.Context, n int, _ *amqpkit.Credentials) error {
		if n == 1 {
			proxy.Pause(amqptest.FromBroker)
		}
		return nil
	}, 6*time.Second)
	conn, _ := s.connect(t, amqpkit.Config{URLs: []string{proxy.URL()}})
	s.await(t, 1)
	began := time.Now()
	if err := conn.Close(kit.Within(t, 500*time.Millisecond)); err != nil || time.Since(began) > 750*time.Millisecond {
		t.Errorf("Close = %v after %v", err, time.Since(began))
	}
}

// The broker takes the name from the token, whatever the login says.
func checksTheUserIDOfTheToken(t *testing.T, b *secured) {
	conn, ac := b.source(asItIs, time.Minute).connect(t, amqpkit.Config{})
	p := kit.NewProducer(t, conn, producer.Config{AllowUnroutable: true})
	for range 3 {
		err := p.Publish(kit.Within(t, 20*time.Second), "amq.fanout", "", amqp.Publishing{UserId: "by-token"})
		if !errors.Is(err, producer.ErrNotPublished) {
			t.Errorf("with the login's name: %v, want ErrNotPublished", err)
		}
	}
	checkUser(t, conn, "billing")
	if session(t, conn) != ac {
		t.Error("the session was replaced")
	}
}
