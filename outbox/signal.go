package outbox

import "sync"

// A signal wakes all goroutines that wait for it. A waiter takes the channel first and then looks for work, so that no
// signal in between is missed. The zero value is ready to use.
type signal struct {
	mu sync.Mutex
	c  chan struct{} // nil without waiters
}

// wait returns a channel that the next send closes.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c == nil {
		s.c = make(chan struct{})
	}
	return s.c
}

func (s *signal) send() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil {
		close(s.c)
		s.c = nil
	}
}
