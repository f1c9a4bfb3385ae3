package conformance

import (
	"maps"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Scenarios about redeclaring queues and exchanges.
var redeclarations = []Scenario{
	{"redeclare-queue-with-an-empty-type", func(s *Script) {
		for _, has := range []any{"classic", "", "undefined"} {
			s.redeclareType(has, "classic", "", "undefined", "nope", 1)
		}
	}},
	{"redeclare-queue-with-other-properties", func(s *Script) {
		ch := s.Channel()
		q := ch.Queue("work", "classic", amqp.Table{"x-max-length": 1})
		for _, f := range []struct {
			what                           string
			durable, autoDelete, exclusive bool
		}{
			{"the same", true, false, false},
			{"transient", false, false, false},
			{"auto-delete", true, true, false},
			{"exclusive", true, false, true},
			{"transient and auto-delete", false, true, false},
			{"all three", false, true, true},
		} {
			s.Try(f.what, func(ch *Channel) error {
				_, err := ch.QueueDeclare(q, f.durable, f.autoDelete, f.exclusive, false, amqp.Table{"x-max-length": 1})
				return err
			})
		}
		s.Try("transient, and other arguments", func(ch *Channel) error {
			_, err := ch.QueueDeclare(q, false, false, false, false, amqp.Table{"x-max-length": 2})
			return err
		})
		hello := s.Name("hello")
		_, err := ch.QueueDeclare(hello, false, false, false, false, nil)
		s.Must(err)
		s.Try("a transient one as durable", func(ch *Channel) error {
			_, err := ch.QueueDeclare(hello, true, false, false, false, nil)
			return err
		})
		s.Try("and as a quorum queue", func(ch *Channel) error {
			_, err := ch.QueueDeclare(hello, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
			return err
		})
	}},
	{"redeclare-queue-with-other-arguments", func(s *Script) {
		s.redeclares("classic", amqp.Table{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx"}, []amqp.Table{
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx"},
			{"x-message-ttl": int64(60000), "x-dead-letter-exchange": "dlx"},
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx", "x-queue-type": "classic"},
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx", "x-foo": 1},
			{"x-message-ttl": 1, "x-dead-letter-exchange": "dlx"},
			{"x-message-ttl": "60000", "x-dead-letter-exchange": "dlx"},
			{"x-dead-letter-exchange": "dlx"},
			{"x-message-ttl": 60000},
			{},
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "other"},
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx", "x-expires": 5},
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "k"},
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx", "x-single-active-consumer": true},
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx", "x-max-priority": "no number"},
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx", "x-delivery-limit": 1},
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx", "x-queue-type": "quorum"},
			{"x-message-ttl": 60000, "x-dead-letter-exchange": "dlx", "x-queue-type": "nope"},
		})
		s.redeclares("quorum", amqp.Table{"x-delivery-limit": 5, "x-overflow": "reject-publish"}, []amqp.Table{
			{"x-delivery-limit": 5, "x-overflow": "reject-publish"},
			{"x-delivery-limit": int64(5), "x-overflow": "reject-publish"},
			{"x-delivery-limit": 5, "x-overflow": "reject-publish", "x-quorum-target-group-size": 3},
			{"x-delivery-limit": 5, "x-overflow": "reject-publish", "x-max-priority": 1},
			{"x-delivery-limit": -1, "x-overflow": "reject-publish"},
			{"x-delivery-limit": 5, "x-overflow": "drop-head"},
			{"x-delivery-limit": 5},
			{},
		})
	}},
	{"redeclare-compares-each-argument", func(s *Script) {
		s.redeclareEach("classic", amqp.Table{
			"x-expires": 60000, "x-message-ttl": 60000, "x-dead-letter-exchange": "", "x-max-length": 10, "x-max-length-bytes": 10,
			"x-max-priority": 1, "x-overflow": "drop-head", "x-queue-mode": "lazy", "x-queue-version": 2, "x-single-active-consumer": true,
			"x-queue-leader-locator": "balanced",
		})
		s.redeclareEach("quorum", amqp.Table{
			"x-expires": 60000, "x-message-ttl": 60000, "x-dead-letter-exchange": "", "x-dead-letter-strategy": "at-most-once",
			"x-max-length": 10, "x-max-length-bytes": 10, "x-max-in-memory-length": 10, "x-max-in-memory-bytes": 10,
			"x-overflow": "drop-head", "x-single-active-consumer": true, "x-quorum-initial-group-size": 1, "x-quorum-target-group-size": 1,
			"x-queue-leader-locator": "balanced", "x-delivery-limit": 5, "x-consumer-timeout": 60000,
			"x-consumer-disconnected-timeout": 60000, "x-delayed-retry-type": "all", "x-delayed-retry-min": 1, "x-delayed-retry-max": 2,
		})
	}},
	{"redeclare-exchange", func(s *Script) {
		ch := s.Channel()
		x := ch.Exchange("x", "direct", amqp.Table{"alternate-exchange": "amq.fanout"})
		plain := ch.Exchange("plain", "topic", nil)
		transient := s.Name("transient")
		s.Must(ch.ExchangeDeclare(transient, "fanout", false, true, true, false, nil))
		same := amqp.Table{"alternate-exchange": "amq.fanout"}
		for _, f := range []struct {
			what, name, kind              string
			durable, autoDelete, internal bool
			args                          amqp.Table
		}{
			{"the same", x, "direct", true, false, false, same},
			{"another type", x, "fanout", true, false, false, same},
			{"transient", x, "direct", false, false, false, same},
			{"auto-delete", x, "direct", true, true, false, same},
			{"internal", x, "direct", true, false, true, same},
			{"everything else", x, "topic", false, true, true, nil},
			{"everything but the type", x, "direct", false, true, true, nil},
			{"no alternate-exchange", x, "direct", true, false, false, nil},
			{"another alternate-exchange", x, "direct", true, false, false, amqp.Table{"alternate-exchange": "amq.topic"}},
			{"an alternate-exchange of another type", x, "direct", true, false, false, amqp.Table{"alternate-exchange": 1}},
			{"an alternate-exchange in place of none", plain, "topic", true, false, false, same},
			{"unknown arguments", plain, "topic", true, false, false, amqp.Table{"x-foo": 1}},
			{"durable what is transient", transient, "fanout", true, true, true, nil},
			{"not auto-delete what is", transient, "fanout", false, false, true, nil},
			{"not internal what is", transient, "fanout", false, true, false, nil},
		} {
			s.Try(f.what, func(ch *Channel) error {
				return ch.ExchangeDeclare(f.name, f.kind, f.durable, f.autoDelete, f.internal, false, f.args)
			})
		}
	}},
}

// redeclareType declares a queue of one type, then redeclares it with other types.
func (s *Script) redeclareType(has any, others ...any) {
	s.tb.Helper()
	s.Title("%s", value(has))
	q := s.Name("typed")
	_, err := s.Channel().QueueDeclare(q, true, false, false, false, amqp.Table{"x-queue-type": has})
	s.Must(err)
	for _, kind := range others {
		s.Try(value(kind), func(ch *Channel) error {
			_, err := ch.QueueDeclare(q, true, false, false, false, amqp.Table{"x-queue-type": kind})
			return err
		})
	}
	s.Try("none", func(ch *Channel) error { _, err := ch.QueueDeclare(q, true, false, false, false, nil); return err })
	s.remove(q)
}

// redeclares declares a queue, then redeclares it with each of the other arguments, each time on a separate channel.
func (s *Script) redeclares(kind string, has amqp.Table, others []amqp.Table) {
	s.tb.Helper()
	s.Title("%s, %s", kind, value(has))
	q := s.Channel().Queue(kind, kind, has)
	for _, args := range others {
		if kind == "quorum" {
			args["x-queue-type"] = kind
		}
		s.Try(value(args), func(ch *Channel) error {
			_, err := ch.QueueDeclare(q, true, false, false, false, args)
			return err
		})
	}
}

// redeclareEach declares a queue with all arguments and redeclares it without them. After each error it adds the argument
// that the broker named, until the broker reports no difference.
func (s *Script) redeclareEach(kind string, all amqp.Table) {
	s.tb.Helper()
	s.Title("%s", kind)
	q := s.Channel().Queue(kind, kind, all)
	args := amqp.Table{"x-queue-type": kind}
	for range len(all) + 1 {
		ch := s.Channel()
		_, err := ch.QueueDeclare(q, true, false, false, false, args)
		if err == nil {
			break
		}
		s.Note("%s", failure(err))
		name := strings.Split(failure(err), "'")[1]
		args[name] = all[name]
		_ = ch.conn.Close()
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if _, ok := args[name]; !ok {
			s.Note("%s is not compared", name)
		}
	}
}
