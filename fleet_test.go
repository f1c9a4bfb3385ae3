package amqpkit

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// chiSquare of numbers that ought to be uniform in [0, 1), in 20 buckets: 19 degrees of freedom, so that more
// than 60 comes by chance once in 250,000 runs.
func chiSquare(us []float64) float64 {
	const buckets = 20
	var counts [buckets]float64
	for _, u := range us {
		counts[min(max(int(u*buckets), 0), buckets-1)]++
	}
	want, chi := float64(len(us))/buckets, 0.0
	for _, n := range counts {
		chi += (n - want) * (n - want) / want
	}
	return chi
}

func TestDefaultBackoffSpreadsTheFirstAttemptsOverTwentyMilliseconds(t *testing.T) {
	us := make([]float64, 20_000)
	for i := range us {
		d := defaultBackoff().NextBackOff()
		if d < 0 || d > 20*time.Millisecond {
			t.Fatalf("first pause %v", d)
		}
		us[i] = d.Seconds() / 0.020
	}
	if chi := chiSquare(us); chi > 60 {
		t.Errorf("first pauses are not uniform: chi-square %.1f", chi)
	}
	b := defaultBackoff()
	for range 10_000 {
		if d := b.NextBackOff(); d < 0 || d > 800*time.Millisecond {
			t.Fatalf("pause %v, want none over 800 ms and no end", d)
		}
	}
}

// refused opens n Conns to a broker that refuses all, and tells each attempt.
func refused(t *testing.T, n int, attempt func(client int)) []*Conn {
	t.Helper()
	conns := make([]*Conn, n)
	for i := range conns {
		conn, err := Open(Config{
			URLs:   []string{"amqp://h"},
			Logger: slog.New(slog.DiscardHandler),
			Dialer: func(context.Context, string, string) (net.Conn, error) {
				attempt(i)
				return nil, errors.New("connection refused")
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
	}
	return conns
}

// All begin at the same moment. Ten seconds into the outage each is somewhere in a pause that is uniform between
// nothing and 800 ms, so what is left of it, x, has the distribution 2x/800 - (x/800)².
func TestS15AThousandClientsDoNotSynchronise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, after = 1000, 10 * time.Second
		start := time.Now()
		var mu sync.Mutex
		next := map[int]time.Duration{} // of each client the first attempt after that, from then
		var busiest, all int
		moment := map[time.Duration]int{} // attempts in each hundredth of a second after the first two
		conns := refused(t, clients, func(client int) {
			mu.Lock()
			defer mu.Unlock()
			at := time.Since(start)
			if at < 2*time.Second {
				return
			}
			moment[at/(10*time.Millisecond)]++
			busiest = max(busiest, moment[at/(10*time.Millisecond)])
			all++
			if _, ok := next[client]; !ok && at >= after {
				next[client] = at - after
			}
		})
		time.Sleep(after + time.Second)
		for _, conn := range conns {
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		us := make([]float64, 0, clients)
		for _, d := range next {
			x := d.Seconds() / 0.8
			us = append(us, 2*x-x*x)
		}
		chi := chiSquare(us)
		t.Logf("chi-square of %d clients %.1f with 19 degrees of freedom; the busiest 10 ms held %d attempts, all held %d on average",
			len(us), chi, busiest, all/900)
		if len(us) != clients || chi > 60 || busiest > 100 {
			t.Errorf("%d of %d clients tried in that second, chi-square %.1f, %d attempts within 10 ms: they move in step", len(us), clients, chi, busiest)
		}
	})
}

func TestS15AnOutageOfAnHourEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last, attempts := time.Now(), 0
		conn := refused(t, 1, func(int) {
			if pause := time.Since(last); pause > 800*time.Millisecond {
				t.Errorf("a pause of %v", pause)
			}
			last = time.Now()
			attempts++
		})[0]
		time.Sleep(time.Hour)
		synctest.Wait()
		if age := time.Since(last); age > 800*time.Millisecond || !errors.Is(conn.Err(), ErrUnreachable) || errors.Is(conn.Err(), ErrClosed) {
			t.Errorf("the last attempt was %v ago: %v", age, conn.Err())
		}
		t.Logf("%d attempts in an hour", attempts)
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
