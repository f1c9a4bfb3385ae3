package amqpkit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestADedicatedConnectionIsServedLikeTheOthersUntilTheConnEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &tokenBroker{}
		conn := renewing(t, &provider{}, broker)
		setUp := 0
		conn.cfg.Setup = func(context.Context, *amqp.Connection) error {
			setUp++
			return nil
		}
		shared, err := conn.ConsumeConnection(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		own, err := conn.DedicatedConnection(t.Context())
		if err != nil || own == shared || setUp != 0 { // it ran before the session that is up
			t.Fatalf("Dedicated = %p, %v with Setup run %d times; shared is %p", own, err, setUp, shared)
		}
		time.Sleep(10 * life)
		if own.IsClosed() {
			t.Error("it did not outlive its credentials")
		}
		closed, err := conn.DedicatedConnection(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = closed.Close()
		if shared.IsClosed() || own.IsClosed() || conn.Err() != nil {
			t.Error("closing one dedicated connection was noticed by others")
		}
		if _, err := conn.LastLoss(); err != nil {
			t.Errorf("LastLoss = %v, want none", err)
		}
		if err := conn.Close(t.Context()); err != nil || !own.IsClosed() {
			t.Errorf("Close = %v, the dedicated connection is closed: %v", err, own.IsClosed())
		}
		if _, err := conn.DedicatedConnection(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Dedicated = %v of a closed Conn", err)
		}
	})
}

// Close waits for the dialling, too: no goroutine may be left.
func TestCloseEndsTheDialOfADedicatedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := renewing(t, &provider{}, &tokenBroker{})
		conn.setup.sessions = nil // as if none were up: Setup runs
		conn.cfg.Setup = func(ctx context.Context, _ *amqp.Connection) error {
			<-ctx.Done()
			return ctx.Err()
		}
		done := make(chan error, 1)
		go func() {
			_, err := conn.DedicatedConnection(context.Background())
			done <- err
		}()
		synctest.Wait()
		began := time.Now()
		if err := conn.Close(t.Context()); err != nil || time.Since(began) > time.Second {
			t.Errorf("Close = %v after %v", err, time.Since(began))
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("Dedicated = %v, want ErrClosed", err)
		}
	})
}
