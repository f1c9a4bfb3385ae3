package rabbit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockKept waits for its turn among the processes that want the broker of Options.Keep.
func lockKept(ctx context.Context) (unlock func(), err error) {
	dir, err := keptDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		if err := pause(ctx); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("rabbit: another process uses the demo's broker: %w", err)
		}
	}
	return func() { _ = f.Close() }, nil
}
