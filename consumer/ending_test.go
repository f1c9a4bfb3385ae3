package consumer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestHandlersKnowHowMuchOfTheDrainTimeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				l.deliver(nil)
			}
		}}
		var before, after time.Duration
		_, end := runOn(t, b, Config{DrainTimeout: 10 * time.Second}, func(ctx context.Context, _ *Delivery) error {
			before, _ = DrainLeft(ctx)
			<-Draining(ctx)
			time.Sleep(4 * time.Second)
			var ok bool
			if after, ok = DrainLeft(ctx); !ok {
				t.Error("DrainLeft of a handler's ctx is unknown")
			}
			return nil
		})
		time.Sleep(time.Hour)
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
		if before != 10*time.Second || after != 6*time.Second {
			t.Errorf("%v left before the shutdown and %v after 4 s of it, want 10 s and 6 s", before, after)
		}
	})
	if left, ok := DrainLeft(t.Context()); ok || left != 0 {
		t.Errorf("DrainLeft = %v, %v of a ctx that is not a handler's", left, ok)
	}
	if Draining(t.Context()) != nil {
		t.Error("Draining is not nil of a ctx that is not a handler's")
	}
}
