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

func TestEachFileIsLockedByOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	first, unlock, err := lock(t.Context(), files...)
	if err != nil {
		t.Fatal(err)
	}
	second, unlockSecond, err := lock(t.Context(), files...)
	if err != nil || first == second {
		t.Fatalf("lock = %d, %v after %d, want the other file", second, err, first)
	}
	defer unlockSecond()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := lock(ctx, files...); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("lock = %v while both are locked, want the end of ctx", err)
	}
	unlock()
	again, unlock, err := lock(t.Context(), files...)
	if err != nil || again != first {
		t.Fatalf("lock = %d, %v, want %d", again, err, first)
	}
	unlock()
}
