package rabbit

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestAttachReturnsAnErrorIfThereIsNoSuchBroker(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // for the lock
	for _, handle := range []string{"", "amqp://127.0.0.1", nodeHandle + filepath.Join(t.TempDir(), "none")} {
		for range 2 { // the second one waits in vain if the first one kept its lock
			if b, err := Attach(t.Context(), handle); err == nil {
				t.Errorf("Attach(%q) = %v, want an error", handle, b)
			}
		}
	}
}

func TestLockIsHeldByOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("lock = %v while it is held, want the end of ctx", err)
	}
	unlock()
	unlock, err = lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
