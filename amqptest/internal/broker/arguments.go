package broker

import (
	"fmt"
	"slices"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// The arguments known to each queue type, in the order in which a redeclaration compares them.
var (
	classicArguments = []string{
		"x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-length",
		"x-max-length-bytes", "x-max-priority", "x-overflow", "x-queue-mode", "x-queue-version", "x-single-active-consumer",
		"x-queue-type", "x-queue-master-locator", "x-queue-leader-locator",
	}
	quorumArguments = []string{
		"x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-expires", "x-max-length",
		"x-max-length-bytes", "x-max-in-memory-length", "x-max-in-memory-bytes", "x-overflow", "x-single-active-consumer",
		"x-queue-type", "x-quorum-initial-group-size", "x-delivery-limit", "x-message-ttl", "x-queue-leader-locator",
		"x-consumer-disconnected-timeout", "x-consumer-timeout", "x-delayed-retry-type", "x-delayed-retry-min",
		"x-delayed-retry-max",
	}
	streamArguments = []string{
		"x-max-length-bytes", "x-queue-type", "x-max-age", "x-stream-max-segment-size-bytes", "x-stream-filter-size-bytes",
		"x-initial-cluster-size", "x-queue-leader-locator",
	}
	allArguments = slices.Concat(classicArguments, quorumArguments, streamArguments)

	classicConsumerArguments = []string{"x-priority"}
	quorumConsumerArguments  = []string{"x-priority", "x-consumer-timeout"}
	allConsumerArguments     = []string{"x-priority", "x-consumer-timeout", "x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"}
)

// A check validates the value of an argument. It returns RabbitMQ's Erlang description of the problem, or "".
type check struct {
	name string
	of   func(v any, all codec.Table) string
}

// The checks in RabbitMQ's order.
var (
	queueChecks = []check{
		{"x-expires", func(v any, _ codec.Table) string {
			if n, ok := codec.Integer(v); ok && n == 0 {
				return "{value_zero,0}"
			}
			return checkExpiry(v)
		}},
		{"x-message-ttl", func(v any, _ codec.Table) string { return checkExpiry(v) }},
		{"x-dead-letter-exchange", func(v any, _ codec.Table) string { return checkString(v) }},
		{"x-dead-letter-routing-key", func(v any, all codec.Table) string {
			if s := checkString(v); s != "" {
				return s
			}
			if _, ok := all.Get("x-dead-letter-exchange"); !ok {
				return "routing_key_but_no_dlx_defined"
			}
			return ""
		}},
		{"x-dead-letter-strategy", oneOf("invalid_dlx_strategy", "at-most-once", "at-least-once")},
		{"x-max-length", checkCount},
		{"x-max-length-bytes", checkCount},
		{"x-max-in-memory-length", checkCount},
		{"x-max-in-memory-bytes", checkCount},
		{"x-max-priority", func(v any, all codec.Table) string {
			if n, _ := codec.Integer(v); n > 255 {
				return fmt.Sprintf("{max_value_exceeded,%d}", n)
			}
			return checkCount(v, all)
		}},
		{"x-overflow", oneOf("invalid_overflow", "drop-head", "reject-publish", "reject-publish-dlx")},
		{"x-queue-version", func(v any, all codec.Table) string {
			if s := checkCount(v, all); s != "" {
				return s
			}
			if n, _ := codec.Integer(v); n != 2 {
				return fmt.Sprintf("\"unsupported queue version '%d'\"", n)
			}
			return ""
		}},
		{"x-single-active-consumer", func(v any, _ codec.Table) string {
			if _, ok := v.(bool); !ok {
				return "{unacceptable_type," + codec.TypeName(v) + "}"
			}
			return ""
		}},
		{"x-consumer-timeout", checkCount},
		{"x-consumer-disconnected-timeout", checkCount},
		{"x-quorum-initial-group-size", func(v any, all codec.Table) string {
			if n, ok := codec.Integer(v); ok && n == 0 {
				return "{value_zero,0}"
			}
			return checkCount(v, all)
		}},
		{"x-queue-leader-locator", oneOf("invalid_queue_locator_arg", "client-local", "balanced")},
	}
	consumerChecks = []check{
		{"x-priority", func(v any, _ codec.Table) string { return checkInteger(v) }},
		{"x-consumer-timeout", checkCount},
	}
)

func checkInteger(v any) string {
	if _, ok := codec.Integer(v); !ok {
		return fmt.Sprintf("\"expected integer, got %s\"", codec.TypeName(v))
	}
	return ""
}

func checkCount(v any, _ codec.Table) string {
	if n, _ := codec.Integer(v); n < 0 {
		return fmt.Sprintf("{value_negative,%d}", n)
	}
	return checkInteger(v)
}

func checkExpiry(v any) string {
	if n, _ := codec.Integer(v); n > maxExpiry {
		return fmt.Sprintf("{value_too_large,%d}", n)
	}
	return checkCount(v, nil)
}

func checkString(v any) string {
	if _, ok := v.(string); !ok {
		return "{unacceptable_type," + codec.TypeName(v) + "}"
	}
	return ""
}

func oneOf(fault string, values ...string) func(any, codec.Table) string {
	return func(v any, _ codec.Table) string {
		if s := checkString(v); s != "" {
			return s
		}
		if !slices.Contains(values, v.(string)) {
			return fault
		}
		return ""
	}
}

// checkArguments validates the values, then rejects arguments that only other queue types know.
func checkArguments(t codec.Table, checks []check, known, all []string, where, kind string) *exception {
	for _, c := range checks {
		if !slices.Contains(known, c.name) {
			continue
		}
		if v, ok := t.Get(c.name); ok {
			if fault := c.of(v, t); fault != "" {
				return raise(preconditionFailed, "invalid arg '%s' for %s: %s", c.name, where, fault)
			}
		}
	}
	for _, f := range sorted(t) {
		if slices.Contains(all, f.Key) && !slices.Contains(known, f.Key) {
			return raise(preconditionFailed, "invalid arg '%s' for %s of queue type %s", f.Key, where, kind)
		}
	}
	return nil
}

// inequivalent compares an argument of an existing object with the one declared.
func inequivalent(where, name string, has, want codec.Table) *exception {
	x, hasIt := has.Get(name)
	y, wantIt := want.Get(name)
	if hasIt == wantIt && (!hasIt || equalValues(x, y)) {
		return nil
	}
	received, current := describe(y, wantIt), describe(x, hasIt)
	if hasIt && wantIt {
		received, current = fmt.Sprintf("'%v'", y), fmt.Sprintf("'%v'", x)
	}
	return raise(preconditionFailed, "inequivalent arg '%s' for %s: received %s but current is %s", name, where, received, current)
}

func describe(v any, there bool) string {
	if !there {
		return "none"
	}
	return fmt.Sprintf("the value '%v' of type '%s'", v, codec.TypeName(v))
}
