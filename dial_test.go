package amqpkit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"
)

// listen serves every connection with serve, which owns it, and returns the URL.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "amqp://" + l.Addr().String()
}

func TestDialTellsWhyWithATypedActionableError(t *testing.T) {
	refused := "amqp://127.0.0.1:1"
	for name, c := range map[string]struct {
		url  string
		kind error
		text string
	}{
		"refused port":       {refused, ErrUnreachable, "check that RabbitMQ runs there"},
		"hangs up at once":   {listen(t, func(net.Conn) {}), ErrHandshake, "not 15672"},
		"speaks HTTP":        {listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }), ErrHandshake, "check that the port"},
		"no TLS on the port": {strings.Replace(listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "AMQP\x00\x00\x09\x01") }), "amqp:", "amqps:", 1), ErrTLS, "check the certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := Dial(t.Context(), c.url)
			var dial *DialError
			if conn != nil || !errors.As(err, &dial) || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("Dial = %v, %v; want a DialError of kind %q with the advice %q", conn, err, c.kind, c.text)
			}
		})
	}
}

func TestS01SilentPeerDuringHandshakeIsBoundedByCtxAndDialTimeout(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	for name, c := range map[string]struct {
		url   string
		serve func(net.Conn)
		kind  error
	}{
		"in the AMQP handshake": {"amqp://h", silent, ErrUnreachable},
		"in the TLS handshake":  {"amqps://example.com", silent, ErrTLS},
		"after it":              {"amqps://example.com", func(c net.Conn) { silent(tls.Server(c, web.TLS)) }, ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // which fails if anything is left behind
				hungUp := make(chan struct{})
				cfg := Config{
					URLs: []string{c.url}, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
					Dialer: func(context.Context, string, string) (net.Conn, error) {
						near, far := net.Pipe()
						go func() { c.serve(far); _ = far.Close(); hungUp <- struct{}{} }()
						return near, nil
					},
				}
				const limit = time.Second
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				start := time.Now()
				_, err := DialConfig(ctx, cfg)
				if took := time.Since(start); took > limit+250*time.Millisecond || !errors.Is(err, c.kind) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Dial with a ctx of %v = %v after %v", limit, err, took)
				}
				<-hungUp

				cfg.DialTimeout = limit
				start = time.Now()
				_, err = DialConfig(t.Context(), cfg)
				if took := time.Since(start); took > limit+250*time.Millisecond || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), "no answer within "+limit.String()) {
					t.Errorf("Dial with a DialTimeout of %v = %v after %v", limit, err, took)
				}
				<-hungUp
			})
		})
	}
}

func TestS04NoSharedSASLMechanismLeavesNoSocketBehind(t *testing.T) {
	hungUp := make(chan struct{})
	url := listen(t, func(c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, 8))
		// connection.start, version 0-9, no properties, mechanisms "FOO", locales "en_US"
		method := "\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x00\x00\x00\x00\x03FOO\x00\x00\x00\x05en_US"
		_, _ = io.WriteString(c, "\x01\x00\x00\x00\x00\x00"+string(rune(len(method)))+method+"\xce")
		_, _ = io.Copy(io.Discard, c)
		close(hungUp)
	})
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	_, err := Dial(t.Context(), url)
	if !errors.Is(err, ErrHandshake) || !errors.Is(err, amqp.ErrSASL) {
		t.Fatalf("Dial = %v, want ErrHandshake wrapping amqp.ErrSASL", err)
	}
	<-hungUp
}

func TestDialOfSeveralURLsPrefersTheAnswerOfABroker(t *testing.T) {
	broker := listen(t, func(net.Conn) {})
	for range 10 { // the order is random
		_, err := DialConfig(t.Context(), Config{URLs: []string{"amqp://127.0.0.1:1", broker, "amqp://127.0.0.1:2"}})
		if !errors.Is(err, ErrHandshake) {
			t.Fatalf("Dial = %v, want the refusal of the broker that answered", err)
		}
	}
}

func TestOpenKeepsTryingAndShowsTheCause(t *testing.T) {
	attempts := make(chan string)
	conn, err := Open(Config{
		URLs:    []string{"amqp://a", "amqp://b", "amqp://c"},
		Backoff: func() backoff.BackOff { return &backoff.ZeroBackOff{} },
		Logger:  slog.New(slog.DiscardHandler),
		Dialer: func(ctx context.Context, _, addr string) (net.Conn, error) {
			select {
			case attempts <- addr:
			case <-ctx.Done():
			}
			return nil, errors.New("cable unplugged")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 { // every pass visits every URL
		seen := map[string]bool{<-attempts: true, <-attempts: true, <-attempts: true}
		if len(seen) != 3 {
			t.Errorf("one pass visited only %v", seen)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := conn.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "cable unplugged") {
		t.Errorf("Ready = %v, want the end of ctx and the last failure", err)
	}
	if err := conn.Err(); !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrClosed) {
		t.Errorf("Err = %v", err)
	}
	if _, err := conn.PublishConnection(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Publishing = %v", err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Errorf("Close = %v", err)
	}
	if _, err := conn.ConsumeConnection(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Consuming after Close = %v", err)
	}
	if !errors.Is(conn.Err(), ErrClosed) {
		t.Errorf("after Close: %v", conn.Err())
	}
}

func TestWhatCanNeverHealEndsTheConn(t *testing.T) {
	for name, cfg := range map[string]Config{
		"backoff gives up": {Backoff: func() backoff.BackOff { return &backoff.StopBackOff{} }},
		"permanent credentials": {Credentials: func(context.Context) (Credentials, error) {
			return Credentials{}, backoff.Permanent(errors.New("revoked"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.URLs = []string{"amqp://127.0.0.1:1"}
			cfg.Logger = slog.New(slog.DiscardHandler)
			conn, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			<-conn.Done()
			var dial *DialError
			if err := conn.Err(); !errors.Is(err, ErrClosed) || !errors.As(err, &dial) {
				t.Errorf("Err = %v, want ErrClosed and the DialError", err)
			}
			if err := conn.Ready(t.Context()); !errors.As(err, &dial) {
				t.Errorf("Ready = %v, want the DialError", err)
			}
		})
	}
}

func TestS15CloseInterruptsBackoffDialAndHandshake(t *testing.T) {
	reached := make(chan struct{}, 1)
	silent := listen(t, func(c net.Conn) { reached <- struct{}{}; _, _ = io.Copy(io.Discard, c) })
	for name, cfg := range map[string]Config{
		"backoff": {URLs: []string{"amqp://127.0.0.1:1"}, Backoff: func() backoff.BackOff {
			reached <- struct{}{}
			return backoff.NewConstantBackOff(time.Hour)
		}},
		"handshake": {URLs: []string{silent}},
		"dial": {URLs: []string{"amqp://h"}, Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			reached <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Logger = slog.New(slog.DiscardHandler)
			conn, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			<-reached
			start := time.Now()
			if err := conn.Close(t.Context()); err != nil || time.Since(start) > 250*time.Millisecond {
				t.Errorf("Close = %v after %v", err, time.Since(start))
			}
		})
	}
}

func TestErrReturnsAtOnceAndEveryChangeIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled := make(chan error)
		conn, err := Open(Config{URLs: []string{"amqp://h"}, Logger: slog.New(slog.DiscardHandler), Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case err := <-dialled:
				return nil, err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		changed := conn.Changed()
		if err := conn.Err(); !errors.Is(err, errNotUp) {
			t.Errorf("before the first attempt Err = %v, want %v", err, errNotUp)
		}
		synctest.Wait()
		select {
		case <-changed:
			t.Error("a change was reported without a cause")
		default:
		}
		down := errors.New("cable unplugged")
		dialled <- down
		<-changed
		changed = conn.Changed()
		if err := conn.Err(); !errors.Is(err, down) {
			t.Errorf("after a failed attempt Err = %v, want %v", err, down)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
		<-changed
		if err := conn.Err(); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close Err = %v, want %v", err, ErrClosed)
		}
	})
}

func TestOpeningTheSecondConnectionIsAChange(t *testing.T) {
	conn, err := Open(Config{
		URLs: []string{"amqp://h"},
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = conn.PublishConnection(ended) // takes the connection that Open has started
	changed := conn.Changed()
	_, _ = conn.ConsumeConnection(ended) // starts its own
	select {
	case <-changed:
	default:
		t.Error("the change was not reported")
	}
}
