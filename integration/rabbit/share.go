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
	SharedVar  = "AMQPKIT_BROKER"  // the Handles of its brokers, separated by spaces
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

// Attach returns one of the brokers of another process, which must have started them with the default Options. handles are their
// Handles, separated by spaces. It waits until no other process is attached to one of them. The returned Broker can be
// stopped and started. Close detaches from it and leaves it running. The broker must be running again before that.
func Attach(ctx context.Context, handles string) (*Broker, error) {
	fields := strings.Fields(handles)
	var files []string
	for _, h := range fields {
		files = append(files, lockFile(h))
	}
	i, unlock, err := lock(ctx, files...)
	if err != nil {
		return nil, fmt.Errorf("rabbit: other processes are attached to %s: %w", handles, err)
	}
	handle := fields[i]
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

// lock waits until no other process has locked one of the files, creates the file if necessary, and locks it. It returns the
// index of the file.
func lock(ctx context.Context, files ...string) (i int, unlock func(), err error) {
	if len(files) == 0 {
		return 0, nil, errors.New("no Handle")
	}
	for {
		for i, path := range files {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				return 0, nil, err
			}
			if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
				return i, func() { _ = f.Close() }, nil
			}
			_ = f.Close()
		}
		if err := nextPoll(ctx); err != nil {
			return 0, nil, err
		}
	}
}
