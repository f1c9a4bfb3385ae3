package broker

import (
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// settings are the decoded arguments of a queue.
type settings struct {
	quorum              bool
	ttl, expires        int64 // milliseconds, -1 for none
	maxLength, maxBytes int64 // -1 for none
	overflow            string
	dlx, dlk            *string
	atLeastOnce         bool
	limit               int64 // the delivery limit, -1 for none
	single              bool
	maxPriority         int
	timeout             time.Duration // the consumer timeout, 0 for none
	retry               retrySettings
}

func newSettings(t codec.Table, timeout time.Duration) settings {
	s := settings{
		ttl: number(t, "x-message-ttl", -1), expires: number(t, "x-expires", -1),
		maxLength: number(t, "x-max-length", -1), maxBytes: number(t, "x-max-length-bytes", -1),
		overflow: dropHead, limit: -1,
	}
	kind, _ := t.Get("x-queue-type")
	s.quorum = kind == kindQuorum
	if v, ok := t.Get("x-overflow"); ok {
		s.overflow, _ = v.(string)
	}
	if v, ok := t.Get("x-dead-letter-exchange"); ok {
		x, _ := v.(string)
		s.dlx = &x
		if v, ok := t.Get("x-dead-letter-routing-key"); ok {
			k, _ := v.(string)
			s.dlk = &k
		}
	}
	single, _ := t.Get("x-single-active-consumer")
	s.single = single == true
	if !s.quorum {
		s.maxPriority = int(number(t, "x-max-priority", 0))
		return s
	}
	if s.overflow == rejectPublishDLX { // quorum queues accept the value and ignore it
		s.overflow = dropHead
	}
	strategy, _ := t.Get("x-dead-letter-strategy")
	s.atLeastOnce = strategy == "at-least-once" && s.overflow == rejectPublish && s.dlx != nil
	s.limit = number(t, "x-delivery-limit", 20)
	s.timeout = time.Duration(number(t, "x-consumer-timeout", timeout.Milliseconds())) * time.Millisecond
	s.retry = newRetrySettings(t)
	return s
}

func number(t codec.Table, name string, otherwise int64) int64 {
	v, _ := t.Get(name)
	if n, ok := codec.Integer(v); ok {
		return n
	}
	return otherwise
}

// retrySettings configure the delayed retry of a quorum queue.
type retrySettings struct {
	failed, returned bool
	least, most      int64 // milliseconds
}

func newRetrySettings(t codec.Table) retrySettings {
	r := retrySettings{least: number(t, "x-delayed-retry-min", 0)}
	r.most = number(t, "x-delayed-retry-max", r.least)
	if r.least <= 0 {
		return retrySettings{}
	}
	v, _ := t.Get("x-delayed-retry-type")
	kind, _ := v.(string)
	r.failed = kind == "all" || kind == "failed"
	r.returned = kind == "all" || kind == "returned"
	return r
}
