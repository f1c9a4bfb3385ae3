package conformance

import (
	"maps"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Scenarios about the arguments of queue.declare.
var queueArguments = []Scenario{
	{"queue-types", func(s *Script) {
		for _, kind := range []any{"classic", "quorum", "", "undefined", "rabbit_classic_queue", "rabbit_quorum_queue", "Quorum", "nope", 1, true, nil} {
			s.tryArguments(amqp.Table{"x-queue-type": kind})
		}
	}},
	{"queue-arguments-of-another-type", func(s *Script) {
		known := amqp.Table{
			"x-expires": 60000, "x-message-ttl": 60000, "x-dead-letter-exchange": "", "x-dead-letter-strategy": "at-most-once",
			"x-max-length": 1, "x-max-length-bytes": 1, "x-max-in-memory-length": 1, "x-max-in-memory-bytes": 1, "x-max-priority": 1,
			"x-overflow": "drop-head", "x-queue-mode": "lazy", "x-queue-version": 2, "x-single-active-consumer": true,
			"x-consumer-timeout": 60000, "x-consumer-disconnected-timeout": 60000, "x-quorum-initial-group-size": 1,
			"x-quorum-target-group-size": 1, "x-max-age": "1h", "x-stream-max-segment-size-bytes": 1, "x-stream-filter-size-bytes": 16,
			"x-initial-cluster-size": 1, "x-queue-leader-locator": "balanced", "x-delivery-limit": 1, "x-delayed-retry-type": "all",
			"x-delayed-retry-min": 1, "x-delayed-retry-max": 1, "x-member-placement-tag": "a",
		}
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			for _, name := range slices.Sorted(maps.Keys(known)) {
				s.tryArguments(amqp.Table{"x-queue-type": kind, name: known[name]})
			}
		}
	}},
	{"unknown-queue-arguments-are-ignored", func(s *Script) {
		ch := s.Channel()
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := s.Name(kind)
			for _, args := range []amqp.Table{{"x-foo": "bar"}, {"x-foo": 1, "y": amqp.Table{"z": true}}, {}} {
				args["x-queue-type"] = kind
				_, err := ch.QueueDeclare(q, true, false, false, false, args)
				s.Note("%s: %s", value(args), ch.outcome(err))
			}
		}
	}},
	{"queue-argument-values", func(s *Script) {
		const year = int64(365 * 24 * 3600 * 1000) // in milliseconds
		for _, f := range []struct {
			name   string
			values []any
		}{
			{"x-message-ttl", []any{
				0, 1, -1, 10 * year, 10*year + 1, int8(1), byte(1), int16(1), int32(1), int64(1), "1", "", 1.0, float32(1), true,
				nil,
				amqp.Table{},
				[]any{1},
				[]byte{1},
				amqp.Decimal{Scale: 1, Value: 10},
			}},
			{"x-expires", []any{0, 1, -1, 10 * year, 10*year + 1, "1"}},
			{"x-max-length", []any{0, 1, -1, int64(1 << 40), "1"}},
			{"x-max-length-bytes", []any{0, 1, -1, int64(1 << 40), "1"}},
			{"x-max-priority", []any{0, 1, 255, 256, -1, "1"}},
			{"x-queue-version", []any{0, 1, 2, 3, -1, "2"}},
			{"x-queue-mode", []any{"default", "lazy", "nope", 1}},
			{"x-overflow", []any{"drop-head", "reject-publish", "reject-publish-dlx", "nope", "", 1, []byte("drop-head")}},
			{"x-queue-leader-locator", []any{"client-local", "balanced", "nope", 1}},
			{"x-single-active-consumer", []any{true, false, 1, "true"}},
			{"x-dead-letter-exchange", []any{"", "missing", 1, true, []byte("x")}},
		} {
			s.Title("%s", f.name)
			for _, v := range f.values {
				s.tryArguments(amqp.Table{f.name: v})
			}
		}
		s.Title("x-dead-letter-routing-key")
		s.tryArguments(amqp.Table{"x-dead-letter-routing-key": "k"})
		s.tryArguments(amqp.Table{"x-dead-letter-routing-key": "k", "x-dead-letter-exchange": ""})
		s.tryArguments(amqp.Table{"x-dead-letter-routing-key": 1, "x-dead-letter-exchange": ""})
	}},
	{"queue-argument-values-of-quorum-queues", func(s *Script) {
		for _, f := range []struct {
			name   string
			values []any
		}{
			{"x-message-ttl", []any{0, -1, "1"}},
			{"x-expires", []any{0, -1, "1"}},
			{"x-delivery-limit", []any{0, 1, -1, -2, int64(1 << 40), "3", true, nil}},
			{"x-consumer-timeout", []any{0, 1, -1, int64(1 << 40), "1"}},
			{"x-consumer-disconnected-timeout", []any{0, -1, "1"}},
			{"x-quorum-initial-group-size", []any{0, 1, 5, -1, "1"}},
			{"x-quorum-target-group-size", []any{0, 1, -1, "1"}},
			{"x-max-in-memory-length", []any{0, -1, "1"}},
			{"x-overflow", []any{"drop-head", "reject-publish", "reject-publish-dlx", "nope"}},
			{"x-dead-letter-strategy", []any{"at-most-once", "at-least-once", "nope", "", 1}},
			{"x-delayed-retry-type", []any{"all", "failed", "returned", "disabled", "nope", 1}},
			{"x-delayed-retry-min", []any{0, 1, -1, "1"}},
			{"x-delayed-retry-max", []any{0, 1, -1, "1"}},
		} {
			s.Title("%s", f.name)
			for _, v := range f.values {
				s.tryArguments(amqp.Table{"x-queue-type": "quorum", f.name: v})
			}
		}
	}},
	{"several-wrong-arguments", func(s *Script) {
		s.Note("a wrong value counts before an argument of another type:")
		s.tryArguments(amqp.Table{"x-delivery-limit": 1, "x-message-ttl": "1"})
		s.Note("values are looked at in a fixed order:")
		s.tryArguments(amqp.Table{"x-max-length": "1", "x-message-ttl": "1", "x-expires": "1", "x-overflow": "1"})
		s.Note("and the type first of all:")
		s.tryArguments(amqp.Table{"x-queue-type": "nope", "x-expires": "1"})
	}},
	{"a-deprecated-argument", func(s *Script) {
		s.tryArguments(amqp.Table{"x-queue-type": "quorum", "x-queue-master-locator": "client-local"})
		s.tryArguments(amqp.Table{"x-queue-type": "classic", "x-queue-master-locator": "client-local"})
	}},
}

// tryArguments declares a queue with arguments and deletes it.
func (s *Script) tryArguments(args amqp.Table) {
	s.tb.Helper()
	s.Try(value(args), func(ch *Channel) error {
		name := "work" + s.suffix
		_, err := ch.QueueDeclare(name, true, false, false, false, args)
		if err == nil {
			_, err = ch.QueueDelete(name, false, false, false)
		}
		return err
	})
}
