package amqpkit_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
)

// consuming returns the consuming session.
func consuming(t *testing.T, conn *amqpkit.Conn) *amqp.Connection {
	t.Helper()
	ac, err := conn.ConsumeConnection(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return ac
}

// A runs records when Setup ran.
type runs struct {
	mu   sync.Mutex
	at   []time.Time
	fail error
	hang bool // until ctx ends
}

func (r *runs) setup(ctx context.Context, _ *amqp.Connection) error {
	r.mu.Lock()
	r.at = append(r.at, time.Now())
	fail, hang := r.fail, r.hang
	r.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return fail
}

func (r *runs) set(fail error, hang bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail, r.hang = fail, hang
}

// since returns the pauses between the runs since began, the first from then.
func (r *runs) since(began time.Time) (pauses []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := began
	for _, at := range r.at {
		if !at.Before(began) {
			pauses = append(pauses, at.Sub(last))
			last = at
		}
	}
	return pauses
}

func TestSetupRunsAgainForMissingQueuesOnceASecondAtMost(t *testing.T) {
	down := errors.New("refused")
	for name, c := range map[string]struct {
		fail error
		once bool
		want []time.Duration // between the runs of six seconds
	}{
		"it fails":                             {down, false, []time.Duration{100 * time.Millisecond, time.Second, time.Second, time.Second, time.Second, time.Second}},
		"it succeeds and the queue is missing": {nil, false, []time.Duration{100 * time.Millisecond, time.Second, 2 * time.Second}},
		"it is switched off":                   {nil, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r runs
				conn := open(t, inMemory(t), amqpkit.Config{Setup: r.setup, SetupOnce: c.once})
				session := consuming(t, conn)
				publishing(t, conn)
				r.set(c.fail, false)
				time.Sleep(time.Minute)
				began, cause := time.Now(), errors.New("no queue")
				_, found := conn.QueueMissing("orders", cause)
				_, foundToo := conn.QueueMissing("billing", cause)
				time.Sleep(6 * time.Second)
				if got := r.since(began); !slices.Equal(got, c.want) {
					t.Errorf("Setup ran after %v, want %v", got, c.want)
				}
				var missing *amqpkit.MissingError
				err := conn.Err()
				if !errors.As(err, &missing) || !slices.Equal(missing.Queues, []string{"orders", "billing"}) || !errors.Is(err, cause) ||
					missing.Again == c.once || c.fail != nil && !errors.Is(err, c.fail) {
					t.Errorf("Err = %v", err)
				}
				if consuming(t, conn) != session {
					t.Error("the session changed")
				}
				publishing(t, conn) // is handed out all the same
				found()
				found()
				if err := conn.Err(); !errors.As(err, &missing) || !slices.Equal(missing.Queues, []string{"billing"}) {
					t.Errorf("with one queue missing Err = %v", err)
				}
				foundToo()
				if err := conn.Err(); err != nil {
					t.Errorf("with all queues Err = %v", err)
				}
			})
		})
	}
}

func TestAQueueThatIsThereAgainHasSetupRunOnceForItsBindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r runs
		conn := open(t, inMemory(t), amqpkit.Config{Setup: r.setup})
		consuming(t, conn)
		began := time.Now().Add(time.Nanosecond)
		time.Sleep(time.Nanosecond)
		tried, found := conn.QueueMissing("orders", errors.New("cancelled"))
		found()
		if err := conn.Err(); err != nil {
			t.Errorf("Err = %v", err)
		}
		<-tried
		time.Sleep(time.Minute)
		if got := r.since(began); len(got) != 1 {
			t.Errorf("Setup ran after %v, want it once", got)
		}
	})
}

func TestSetupIsTriedAgainForAQueueThatIsThereUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r runs
		conn := open(t, inMemory(t), amqpkit.Config{Setup: r.setup})
		consuming(t, conn)
		r.set(errors.New("refused"), false)
		time.Sleep(time.Second)
		began := time.Now()
		_, found := conn.QueueMissing("orders", errors.New("cancelled"))
		found()
		time.Sleep(5 * time.Second)
		if err := conn.Err(); err != nil {
			t.Errorf("Err = %v", err)
		}
		r.set(nil, false)
		time.Sleep(time.Minute)
		want := []time.Duration{100 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
		if got := r.since(began); !slices.Equal(got, want) {
			t.Errorf("Setup ran after %v, want %v", got, want)
		}
	})
}

func TestANewSessionsSetupDoesNotWaitForARepeatedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t)
		var r runs
		conn := open(t, b, amqpkit.Config{Setup: r.setup})
		session := consuming(t, conn)
		r.set(nil, true)
		_, found := conn.QueueMissing("orders", errors.New("no queue"))
		time.Sleep(time.Second) // the repeated run hangs
		r.set(nil, false)
		began := time.Now()
		publishing(t, conn)
		if took := time.Since(began); took > time.Second {
			t.Errorf("a session for publishing took %v", took)
		}
		if consuming(t, conn) != session {
			t.Error("the session in use was lost")
		}
		found()
	})
}

func TestARepeatedSetupThatTakesTooLongLeavesTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r runs
		conn := open(t, inMemory(t), amqpkit.Config{Setup: r.setup})
		session := consuming(t, conn)
		r.set(nil, true)
		_, found := conn.QueueMissing("orders", errors.New("no queue"))
		time.Sleep(2 * time.Minute)
		if err := conn.Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Err = %v, want the end of SetupTimeout", err)
		}
		if consuming(t, conn) != session {
			t.Error("the session in use was lost")
		}
		found()
	})
}
