package consumer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestDrainingIsClosedWhenTheShutdownStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				l.deliver(nil)
			}
		}}
		began := time.Now()
		var after time.Duration
		_, end := runOn(t, b, Config{DrainTimeout: 10 * time.Second}, func(ctx context.Context, _ *Delivery) error {
			<-Draining(ctx)
			after = time.Since(began)
			return ctx.Err()
		})
		time.Sleep(time.Hour)
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
		if after != time.Hour {
			t.Errorf("Draining was closed after %v, want 1 h", after)
		}
	})
	if Draining(t.Context()) != nil {
		t.Error("Draining is not nil outside a handler")
	}
}
