package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// A fleet is the worker processes of a run.
type fleet struct {
	program string
	dir     string // of the logs
	members []*member

	mu     sync.Mutex
	counts map[string]int // events that workers have reported
	losses []string       // exits that the run did not cause
}

// A member is a worker process and its successors. One goroutine at a time may use it.
type member struct {
	f    *fleet
	spec spec
	cmd  *exec.Cmd // the current process

	reached  map[string]chan struct{} // closed when the process reports the event
	exited   chan struct{}            // closed when the process has exited
	expected *atomic.Bool             // the run stops the process
}

func (f *fleet) count(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[event]++
}

func (f *fleet) counted(event string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[event]
}

// add starts a process.
func (f *fleet) add(s spec) error {
	m := &member{f: f, spec: s}
	f.members = append(f.members, m)
	return m.start()
}

// role returns the members with a role, or all members if role is "".
func (f *fleet) role(role string) (list []*member) {
	for _, m := range f.members {
		if role == "" || m.spec.Role == role {
			list = append(list, m)
		}
	}
	return list
}

// start starts a process for the member. Its output is appended to the member's log.
func (m *member) start() error {
	task, err := json.Marshal(m.spec)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(m.f.dir, m.spec.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(m.f.program) //nolint:noctx,gosec // the member stops it; the program is this one
	cmd.Env = append(os.Environ(), workerVar+"="+string(task), "GORACE=halt_on_error=1")
	cmd.Stderr = log
	cmd.SysProcAttr = ownGroup()
	if _, err = cmd.StdinPipe(); err != nil { // ends together with this process
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	reached := map[string]chan struct{}{started: make(chan struct{}), ready: make(chan struct{})}
	exited, expected := make(chan struct{}), new(atomic.Bool)
	m.cmd, m.reached, m.exited, m.expected = cmd, reached, exited, expected
	go func() {
		defer close(exited)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if event := reached[lines.Text()]; event != nil {
				close(event)
				continue
			}
			m.f.count(lines.Text())
		}
		err := cmd.Wait()
		if !expected.Load() {
			m.f.lose(fmt.Sprintf("%s exited by itself: %v", m.spec.Name, err))
		}
	}()
	return nil
}

func (f *fleet) lose(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.losses = append(f.losses, what)
}

// await waits until the process has reported an event.
func (m *member) await(ctx context.Context, event string) error {
	select {
	case <-m.reached[event]:
		return nil
	case <-m.exited:
		return fmt.Errorf("%s exited", m.spec.Name)
	case <-ctx.Done():
		return fmt.Errorf("%s is not %s: %w", m.spec.Name, event, context.Cause(ctx))
	}
}

func (m *member) hasExited() bool {
	select {
	case <-m.exited:
		return true
	default:
		return false
	}
}

// kill kills the process and waits for its exit.
func (m *member) kill() {
	m.expected.Store(true)
	_ = m.cmd.Process.Kill() // fails if it has exited
	<-m.exited
}

// stop stops the process in order. It returns an error if that takes too long or fails.
func (m *member) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := m.await(ctx, started); err != nil {
		return err
	}
	m.expected.Store(true)
	if err := m.cmd.Process.Signal(terminate); err != nil {
		return fmt.Errorf("%s has exited: %w", m.spec.Name, err)
	}
	select {
	case <-m.exited:
	case <-ctx.Done():
		m.kill()
		return fmt.Errorf("%s did not stop within %v", m.spec.Name, stopTime)
	}
	if !m.cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %v; see its log", m.spec.Name, m.cmd.ProcessState)
	}
	return nil
}

// stopAll stops the processes with a role in order, all at once.
func (f *fleet) stopAll(role string) error {
	list := f.role(role)
	errs := make([]error, len(list))
	var stopping sync.WaitGroup
	for i, m := range list {
		stopping.Go(func() { errs[i] = m.stop() })
	}
	stopping.Wait()
	return errors.Join(errs...)
}

// close kills all processes.
func (f *fleet) close() {
	for _, m := range f.members {
		if m.cmd != nil {
			m.kill()
		}
	}
}
