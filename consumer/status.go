package consumer

import (
	"context"
	"fmt"
	"sync"
)

// status is what a Run tells the goroutines beside it.
type status struct {
	mu      sync.Mutex
	phase   phase
	err     error         // while not subscribed: the last failure
	stood   bool          // the last Run was subscribed
	changed chan struct{} // closed at the next change
}

type phase int

const (
	idle        phase = iota // no Run yet
	subscribing              // Run waits for a connection, subscribes or backs off
	subscribed               // deliveries flow
	ended                    // Run has returned
)

func newStatus() *status { return &status{changed: make(chan struct{})} }

// start claims the status for one Run.
func (s *status) start() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == subscribing || s.phase == subscribed {
		return false
	}
	s.stood = false
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
	s.stood = s.stood || p == subscribed
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *status) lastErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ready waits for a subscription. A Run that had one and has ended before the call is not the one that is waited for: the
// next may be about to start.
func (s *status) ready(ctx context.Context) error {
	began := false // the Run that is waited for
	for {
		s.mu.Lock()
		p, err, stood, changed := s.phase, s.err, s.stood, s.changed
		s.mu.Unlock()
		switch p {
		case subscribed:
			return nil
		case subscribing:
			began = true
		case idle:
		case ended:
			if err == nil {
				err = ErrEnded
			} else {
				err = fmt.Errorf("%w: %w", ErrEnded, err)
			}
			if began || !stood {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if err == nil {
				return fmt.Errorf("consumer: not subscribed yet: %w", context.Cause(ctx))
			}
			return fmt.Errorf("consumer: not subscribed yet: %w; last failure: %w", context.Cause(ctx), err)
		}
	}
}
