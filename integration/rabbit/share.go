package rabbit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Environment variables that integration/cmd/broker sets for test processes.
const (
	SharedVar  = "AMQPKIT_BROKER"  // the Handle of its broker
	SkippedVar = "AMQPKIT_SKIPPED" // the file to which they add the names of tests that the broker cannot run
)

const (
	containerHandle = "container:"
	nodeHandle      = "node:"
)

// Handle returns a string with which other processes on this machine can Attach to the broker. It is "" for the broker from
// AMQP_URL.
func (b *Broker) Handle() string {
	if b.node == nil {
		return ""
	}
	return b.node.handle()
}

// Attach returns the broker of another process, which must have started it with the default Options. It waits until no other
// process is attached. The returned Broker can be stopped and started. Close detaches from it and leaves it running. The
// broker must be running again before that.
func Attach(ctx context.Context, handle string) (*Broker, error) {
	unlock, err := lock(ctx, lockFile(handle))
	if err != nil {
		return nil, fmt.Errorf("rabbit: another process is attached to %s: %w", handle, err)
	}
	b := &Broker{keep: true, unlock: unlock}
	b.node, err = attach(ctx, handle)
	if err == nil {
		err = b.Start(ctx)
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("rabbit: attach to %s: %w", handle, err)
	}
	return b, nil
}

func attach(ctx context.Context, handle string) (node, error) {
	if name, ok := strings.CutPrefix(handle, containerHandle); ok {
		c := &container{name: name, hostname: ownHost}
		if err := c.find(ctx); err != nil {
			return nil, err
		}
		if !c.reused {
			return nil, errors.New("no such container")
		}
		return c, nil
	}
	if dir, ok := strings.CutPrefix(handle, nodeHandle); ok {
		n, err := loadNative(dir)
		if err != nil {
			return nil, err
		}
		n.reused = true
		return n, nil
	}
	return nil, errors.New("not a Handle")
}

// lockFile returns the path of the file that an attached process locks.
func lockFile(handle string) string {
	_, name, _ := strings.Cut(handle, ":")
	return filepath.Join(os.TempDir(), filepath.Base(name)+".lock")
}

// lock waits until no other process has locked the file at path, creates the file if necessary, and locks it.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		if err := nextPoll(ctx); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	return func() { _ = f.Close() }, nil
}
