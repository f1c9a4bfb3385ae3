package consumer

import "errors"

// A missingQueue is a report to the Connection that the queue is missing.
type missingQueue struct {
	tried <-chan struct{} // receives a value after each attempt to restore the queue
	found func()          // withdraws the report; nil if there is none
}

// report reports the queue to the connection if err means that it is missing. A basic.cancel has no reason, so it is
// reported too: another client may have redeclared the queue without its bindings.
func (m *missingQueue) report(conn Connection, err error) {
	r, ok := conn.(restorer)
	if !ok {
		return
	}
	var queue string
	var failed *SubscribeError
	var lost *LostError
	switch {
	case errors.As(err, &failed):
		if !isMissing(err) {
			if exists(err) {
				m.clear()
			}
			return
		}
		queue = failed.Queue
	case errors.As(err, &lost) && lost.Err == nil:
		queue = lost.Queue
	default:
		return
	}
	if m.found == nil {
		m.tried, m.found = r.QueueMissing(queue, err)
	}
}

// clear withdraws the report.
func (m *missingQueue) clear() {
	if m.found != nil {
		m.found()
		*m = missingQueue{}
	}
}
