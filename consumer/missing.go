package consumer

import (
	"errors"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A missing is the report to a Restorer that the queue is missing.
type missing struct {
	tried <-chan struct{}
	found func() // nil without a report
}

// reportMissing reports the queue to the connection if err means that it is missing. A basic.cancel comes
// without a reason, so it is reported too: another client may have redeclared the queue without its bindings.
func (r *run) reportMissing(err error) {
	restorer, ok := r.conn.(Restorer)
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
				r.queueFound()
			}
			return
		}
		queue = failed.Queue
	case errors.As(err, &lost) && lost.Err == nil:
		queue = lost.Queue
	default:
		return
	}
	if r.missing.found == nil {
		r.missing.tried, r.missing.found = restorer.QueueMissing(queue, err)
	}
}

// queueFound takes the report back.
func (r *run) queueFound() {
	if r.missing.found != nil {
		r.missing.found()
		r.missing = missing{}
	}
}

// isMissing reports whether the broker refused a call because a queue or an exchange does not exist. With the
// same code, 404, it refuses a queue whose node is down: no Setup brings that back.
func isMissing(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Server && e.Code == amqp.NotFound &&
		(strings.Contains(e.Reason, "no queue '") || strings.Contains(e.Reason, "no exchange '"))
}

// exists reports whether the broker refused a call in a way that proves that the queue exists.
func exists(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Server && (e.Code == amqp.ResourceLocked || inUse(err))
}

// inUse reports whether another consumer has exclusive use of the queue.
func inUse(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Server && e.Code == amqp.AccessRefused && strings.Contains(e.Reason, "exclusive use")
}
