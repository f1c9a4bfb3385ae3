package amqpkit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amqpkit/amqpkit/amqptest"
)

func TestRenewalComesWhenAFifthOfTheTimeIsLeft(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		expires     time.Time
		renew, then time.Duration
	}{
		{now.Add(time.Hour), 48 * time.Minute, 30 * time.Minute},
		{now.Add(10 * time.Second), 8 * time.Second, 5 * time.Second},
		{now.Add(time.Second), renewFloor, renewFloor},
		{now.Add(-time.Hour), renewFloor, renewFloor},
		{time.Time{}, never, never},
		{now.AddDate(9000, 0, 0), never / 100 * 80, never / 100 * 50},
	} {
		login := Credentials{Expires: c.expires}
		if renew, then := login.renewIn(now, renewAt), login.renewIn(now, retryAt); renew != c.renew || then != c.then {
			t.Errorf("of credentials that expire at %v: renewal in %v, another try in %v; want %v, %v", c.expires, renew, then, c.renew, c.then)
		}
	}
}

// A provider of tokens that live for an hour, numbered from 1. Each call of get is noted.
type provider struct {
	began  time.Time
	mu     sync.Mutex
	asked  []time.Duration // since began
	answer func(ctx context.Context, asked time.Duration, token Credentials) (Credentials, error)
}

const life = time.Hour

func (p *provider) get(ctx context.Context) (Credentials, error) {
	asked := time.Since(p.began)
	p.mu.Lock()
	p.asked = append(p.asked, asked)
	token := Credentials{Username: "bob", Password: fmt.Sprintf("secret-%d", len(p.asked)), Expires: time.Now().Add(life)}
	p.mu.Unlock()
	if p.answer == nil {
		return token, nil
	}
	return p.answer(ctx, asked, token)
}

// expires returns when a token expires.
func (p *provider) expires(secret string) time.Time {
	var n int
	_, _ = fmt.Sscanf(secret, "secret-%d", &n)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.began.Add(p.asked[n-1] + life)
}

// A tokenBroker is a broker in memory that accepts the tokens of a provider and closes connections when they expire.
type tokenBroker struct {
	expires func(secret string) time.Time // the provider's by default
	answer  func(*amqptest.Request) bool  // intercepts the methods of connections; nil has the broker answer

	mu      sync.Mutex
	logins  []string // user and password of each connection
	updates []string // secrets received later
}

var isUpdate = amqptest.IsMethod(10, 70) // connection.update-secret

// start returns a dialer. The broker ends with the test.
func (b *tokenBroker) start(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	broker := amqptest.Start(t, amqptest.Config{InMemory: true, Login: func(user, secret string) (time.Time, bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.updates) == 0 || b.updates[len(b.updates)-1] != secret {
			b.logins = append(b.logins, user+" "+secret)
		}
		return b.expires(secret), true
	}})
	broker.Intercept(func(r *amqptest.Request) bool {
		if class, _, _ := r.Method(); class != 10 {
			return false
		}
		if isUpdate(r.Frame) {
			b.mu.Lock()
			b.updates = append(b.updates, string(r.Payload[8:8+binary.BigEndian.Uint32(r.Payload[4:])]))
			b.mu.Unlock()
		}
		return b.answer != nil && b.answer(r)
	})
	return broker.Dial
}

// renewing is a Conn whose credentials come from p, and the broker it is connected to. What it logs holds no secret.
func renewing(t *testing.T, p *provider, broker *tokenBroker) *Conn {
	t.Helper()
	p.began = time.Now()
	if broker.expires == nil {
		broker.expires = p.expires
	}
	var log strings.Builder
	conn, err := DialConfig(t.Context(), Config{
		URLs: []string{"amqp://h"}, Credentials: p.get, Dialer: broker.start(t), Heartbeat: time.Hour,
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Errorf("Close = %v", err)
		}
		t.Log(log.String())
		if strings.Contains(log.String(), "secret-") {
			t.Error("a secret was logged")
		}
	})
	return conn
}

// after lets time pass, until everything rests again.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func minutes(ms ...float64) []time.Duration {
	ds := make([]time.Duration, len(ms))
	for i, m := range ms {
		ds[i] = time.Duration(m * float64(time.Minute))
	}
	return ds
}

func TestCredentialsAreRenewedOnTheLivingConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p provider
		var broker tokenBroker
		renewing(t, &p, &broker)
		after(3 * life)
		if want := minutes(0, 48, 96, 144); !slices.Equal(p.asked, want) {
			t.Errorf("new credentials were asked for at %v, want %v", p.asked, want)
		}
		if want := []string{"bob secret-1"}; !slices.Equal(broker.logins, want) {
			t.Errorf("logins: %q, want %q", broker.logins, want)
		}
		if want := []string{"secret-2", "secret-3", "secret-4"}; !slices.Equal(broker.updates, want) {
			t.Errorf("the broker was told %q, want %q", broker.updates, want)
		}
	})
}

func TestCredentialsThatNeverExpireAreNotAskedForAgain(t *testing.T) {
	for name, expires := range map[string]time.Time{"zero": {}, "in the year 9999": time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := provider{answer: func(_ context.Context, _ time.Duration, token Credentials) (Credentials, error) {
					token.Expires = expires
					return token, nil
				}}
				broker := tokenBroker{expires: func(string) time.Time { return time.Time{} }}
				renewing(t, &p, &broker)
				after(1000 * life)
				if want := minutes(0); !slices.Equal(p.asked, want) {
					t.Errorf("credentials were asked for at %v, want %v", p.asked, want)
				}
			})
		})
	}
}

func TestFailedRenewalIsTriedAgainBeforeTheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := provider{answer: func(_ context.Context, asked time.Duration, token Credentials) (Credentials, error) {
			if asked > 30*time.Minute && asked < 58*time.Minute {
				return token, errors.New("no token now")
			}
			return token, nil
		}}
		var broker tokenBroker
		renewing(t, &p, &broker)
		after(2 * life)
		if want := minutes(0, 48, 54, 57, 58.5, 58.5+48); !slices.Equal(p.asked, want) {
			t.Errorf("credentials were asked for at %v, want %v", p.asked, want)
		}
		if len(broker.logins) != 1 || len(broker.updates) != 2 {
			t.Errorf("logins %q, updates %q, want 1 and 2", broker.logins, broker.updates)
		}
	})
}

func TestSourceThatKeepsItsTokenIsAskedUntilItHasANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept Credentials // as golang.org/x/oauth2 keeps it, until 10 s before its end
		p := provider{answer: func(_ context.Context, _ time.Duration, token Credentials) (Credentials, error) {
			if time.Until(kept.Expires) < 10*time.Second {
				kept = token
			}
			return kept, nil
		}}
		var broker tokenBroker
		renewing(t, &p, &broker)
		after(10 * life)
		if len(broker.logins) != 1 {
			t.Errorf("logins %q, want 1", broker.logins)
		}
		if len(p.asked) > 60 {
			t.Errorf("ten tokens took %d questions", len(p.asked))
		}
	})
}

func TestSessionWithoutRenewalEndsAtTheExpiryAndTheNextHasTheNewestCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := provider{answer: func(_ context.Context, asked time.Duration, token Credentials) (Credentials, error) {
			if asked > 30*time.Minute && asked < 70*time.Minute {
				return token, errors.New("no token now")
			}
			return token, nil
		}}
		var broker tokenBroker
		conn := renewing(t, &p, &broker)
		after(life - time.Second)
		if err := conn.Err(); err != nil {
			t.Errorf("a second before the expiry Err = %v", err)
		}
		after(5 * time.Minute)
		if err := conn.Err(); !errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), "no token now") {
			t.Errorf("Err = %v, want ErrCredentials and what the provider said", err)
		}
		after(5*time.Minute + 2*time.Second)
		if err, want := conn.Err(), fmt.Sprintf("bob secret-%d", len(p.asked)); err != nil || len(broker.logins) != 2 || broker.logins[1] != want {
			t.Errorf("with the provider back Err = %v, logins %q; want the second to be %q", err, broker.logins, want)
		}
	})
}

func TestOtherUserTakesANewSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := provider{answer: func(_ context.Context, asked time.Duration, token Credentials) (Credentials, error) {
			if asked > 0 {
				token.Username = "eve"
			}
			return token, nil
		}}
		var broker tokenBroker
		conn := renewing(t, &p, &broker)
		after(48*time.Minute + time.Second)
		if want := []string{"bob secret-1", "eve secret-3"}; !slices.Equal(broker.logins, want) || len(broker.updates) != 0 {
			t.Errorf("logins %q, updates %q; want %q and none", broker.logins, broker.updates, want)
		}
		if err := conn.Err(); err != nil {
			t.Errorf("Err = %v", err)
		}
	})
}

func TestProviderHasTenSecondsToRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := provider{answer: func(ctx context.Context, asked time.Duration, token Credentials) (Credentials, error) {
			if asked > 0 && asked < 57*time.Minute {
				<-ctx.Done()
				return token, context.Cause(ctx)
			}
			return token, nil
		}}
		var broker tokenBroker
		renewing(t, &p, &broker)
		after(life + time.Minute)
		// Half of what is left once the 10 s are over.
		want := []time.Duration{0, 48 * time.Minute, 54*time.Minute + 5*time.Second, 57*time.Minute + 7500*time.Millisecond}
		if !slices.Equal(p.asked, want) {
			t.Errorf("credentials were asked for at %v, want %v", p.asked, want)
		}
		if len(broker.logins) != 1 {
			t.Errorf("logins %q, want 1", broker.logins)
		}
	})
}

func TestRenewalEndsWithItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting atomic.Int32
		p := provider{answer: func(ctx context.Context, asked time.Duration, token Credentials) (Credentials, error) {
			if asked > 0 && asked < life {
				waiting.Add(1)
				<-ctx.Done()
				waiting.Add(-1)
			}
			return token, ctx.Err()
		}}
		var broker tokenBroker
		conn := renewing(t, &p, &broker)
		after(life - time.Millisecond)
		if n := waiting.Load(); n != 1 {
			t.Fatalf("%d renewals are under way before the expiry, want one", n)
		}
		after(time.Second)
		if n, err := waiting.Load(), conn.Err(); n != 0 || err != nil || len(broker.logins) != 2 {
			t.Errorf("after the expiry %d renewals are running, Err = %v, logins %q", n, err, broker.logins)
		}
	})
}

func TestBrokerMayTakeUntilTheExpiryToHearOfNewCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p provider
		broker := tokenBroker{answer: func(r *amqptest.Request) bool {
			if isUpdate(r.Frame) { // as under a memory alarm
				time.Sleep(9 * time.Minute)
			}
			return false
		}}
		renewing(t, &p, &broker)
		after(2 * life)
		if len(broker.logins) != 1 || len(broker.updates) != 2 {
			t.Errorf("logins %q, updates %q; want 1 and 2", broker.logins, broker.updates)
		}
	})
}

func TestCloseInterruptsARenewal(t *testing.T) {
	waiting := func(ctx context.Context, asked time.Duration, token Credentials) (Credentials, error) {
		if asked > 0 {
			<-ctx.Done()
		}
		return token, nil
	}
	for name, c := range map[string]struct {
		p      *provider
		broker *tokenBroker
	}{
		"that waits for the provider": {&provider{answer: waiting}, &tokenBroker{}},
		"that waits for the broker": {&provider{}, &tokenBroker{answer: func(r *amqptest.Request) bool {
			if !isUpdate(r.Frame) { // connection.close
				r.Reply(amqptest.MethodFrame(0, 10, 51))
				time.AfterFunc(time.Nanosecond, r.DropConnection)
			}
			return true // no answer to the update
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := renewing(t, c.p, c.broker)
				after(48*time.Minute + time.Second)
				began := time.Now()
				if err := conn.Close(t.Context()); err != nil || time.Since(began) > 250*time.Millisecond {
					t.Errorf("Close = %v after %v", err, time.Since(began))
				}
				if len(c.broker.logins) != 1 {
					t.Errorf("logins %q, want 1", c.broker.logins)
				}
			})
		})
	}
}

func TestProviderThatIgnoresItsContextCostsTheSessionAtTheExpiryAndCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := provider{answer: func(_ context.Context, asked time.Duration, token Credentials) (Credentials, error) {
			if asked == 48*time.Minute {
				<-release
			}
			return token, nil
		}}
		var broker tokenBroker
		conn := renewing(t, &p, &broker)
		after(life + time.Second)
		if want := []string{"bob secret-1", "bob secret-3"}; !slices.Equal(broker.logins, want) {
			t.Errorf("logins %q, want %q", broker.logins, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := conn.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 1250*time.Millisecond {
			t.Errorf("Close = %v after %v, want the end of its ctx", err, time.Since(began))
		}
		close(release)
		<-conn.Done()
		if len(broker.updates) != 0 {
			t.Errorf("the answer that came too late was used: %q", broker.updates)
		}
	})
}
