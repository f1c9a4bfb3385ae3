package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// status is the state of a Consumer that Err and Ready report.
type status struct {
	mu            sync.Mutex
	phase         phase
	err           error         // the last failure, until the next subscription
	wasSubscribed bool          // the last Run was subscribed
	changed       chan struct{} // closed at the next change
}

type phase int

const (
	idle        phase = iota // no Run yet
	subscribing              // Run waits for a connection, subscribes or backs off
	subscribed               // the queue's messages are delivered
	returned                 // Run has returned
)

func newStatus() *status { return &status{changed: make(chan struct{})} }

// start reserves the status for one Run, and reports whether no other Run is running.
func (s *status) start() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == subscribing || s.phase == subscribed {
		return false
	}
	s.wasSubscribed = false
	s.change(subscribing, nil)
	return true
}

func (s *status) set(p phase, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(p, err)
}

func (s *status) change(p phase, err error) {
	s.phase, s.err = p, err
	s.wasSubscribed = s.wasSubscribed || p == subscribed
	close(s.changed)
	s.changed = make(chan struct{})
}

// current returns nil while Run is subscribed, otherwise the reason.
func (s *status) current() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason()
}

// reason is current, called with mu held.
func (s *status) reason() error {
	switch {
	case s.phase == idle:
		return fmt.Errorf("%w: Run has not been called", ErrNotSubscribed)
	case s.phase == returned && s.err == nil:
		return fmt.Errorf("%w: Run has returned", ErrNotSubscribed)
	case s.phase == returned && !errors.Is(s.err, ErrNotSubscribed):
		return fmt.Errorf("%w: Run has returned: %w", ErrNotSubscribed, validate.Unprefixed(s.err))
	case s.phase == subscribing && s.err == nil:
		return ErrNotSubscribed
	}
	return s.err
}

// ready waits for a subscription. If a Run was subscribed and had returned before the call, ready waits for the next
// Run, which may be about to start, unless the Connection was closed permanently.
func (s *status) ready(ctx context.Context) error {
	began := false // Run was observed running
	for {
		s.mu.Lock()
		p, err, wasSubscribed, changed := s.phase, s.reason(), s.wasSubscribed, s.changed
		closed := errors.As(s.err, new(*connectionError))
		s.mu.Unlock()
		switch {
		case p == subscribed:
			return nil
		case p == subscribing:
			began = true
		case p == returned && (began || closed || !wasSubscribed):
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if errors.Is(err, ErrNotSubscribed) {
				return fmt.Errorf("%w: %w", err, validate.Unprefixed(context.Cause(ctx)))
			}
			return fmt.Errorf("%w: %w; last failure: %w", ErrNotSubscribed, validate.Unprefixed(context.Cause(ctx)), validate.Unprefixed(err))
		}
	}
}
