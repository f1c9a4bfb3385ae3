package retry_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/amqpkit/amqpkit/retry"
)

func TestBackOffGivesThePolicyThenStops(t *testing.T) {
	p := retry.Exponential(time.Second, 3*time.Second).MaxAttempts(5)
	build := func(factory func() backoff.BackOff) backoff.BackOff { return factory() }
	b := build(p.BackOff)
	want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second, backoff.Stop, backoff.Stop}
	for range 2 {
		var got []time.Duration
		for range want {
			got = append(got, b.NextBackOff())
		}
		if !slices.Equal(got, want) {
			t.Errorf("delays = %v, want %v", got, want)
		}
		b.Reset()
	}
	if d := build(p.BackOff).NextBackOff(); d != time.Second {
		t.Errorf("a second BackOff starts with %v, want 1s: they must share nothing", d)
	}
}

func TestBackOffAgreesWithExponentialBackOff(t *testing.T) {
	p := retry.Exponential(7*time.Millisecond, time.Hour).MaxAttempts(100)
	ours, theirs := p.BackOff(), backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(7*time.Millisecond),
		backoff.WithMaxInterval(time.Hour),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0),
		backoff.WithMaxElapsedTime(0),
	)
	for retryNo := range 99 {
		if got, want := ours.NextBackOff(), theirs.NextBackOff(); got != want {
			t.Fatalf("retry %d after %v, ExponentialBackOff says %v", retryNo+1, got, want)
		}
	}
}

func TestBackOffStopsAtMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retry.Schedule(10 * time.Second).MaxAttempts(1000).MaxAge(time.Minute).BackOff()
		retries := func() (n int) {
			for d := b.NextBackOff(); d != backoff.Stop; d = b.NextBackOff() {
				time.Sleep(d)
				n++
			}
			return n
		}
		if n := retries(); n != 6 {
			t.Errorf("%d retries of 10s within a minute, want 6", n)
		}
		b.Reset()
		if n := retries(); n != 6 {
			t.Errorf("%d retries after Reset, want 6", n)
		}
	})
}

func TestBackOffDrivesBackoffRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, calls, boom := time.Now(), 0, errors.New("boom")
		err := backoff.Retry(func() error { calls++; return boom }, retry.Schedule(10*time.Second, time.Minute).BackOff())
		if err != boom || calls != 3 || time.Since(start) != 70*time.Second {
			t.Errorf("Retry = %v after %d calls and %v, want boom after 3 calls and 1m10s", err, calls, time.Since(start))
		}
	})
}

func TestBackOffOfAnInvalidPolicyStopsAtOnce(t *testing.T) {
	for _, p := range []retry.Policy{{}, retry.Schedule(), retry.Exponential(time.Hour, time.Second)} {
		if d := p.BackOff().NextBackOff(); d != backoff.Stop {
			t.Errorf("%#v waits %v, want Stop", p, d)
		}
	}
}
