package topology

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

func queues(qs ...Queue) Topology       { return Topology{Queues: qs} }
func exchanges(xs ...Exchange) Topology { return Topology{Exchanges: xs} }
func bindings(bs ...Binding) Topology   { return Topology{Bindings: bs} }

func args(key string, value any) amqp.Table { return amqp.Table{key: value} }

func TestValidateAcceptsWhatRabbitMQTakes(t *testing.T) {
	for name, topology := range map[string]Topology{
		"nothing":                  {},
		"quorum queue":             queues(Queue{Name: "q"}),
		"queue declared twice":     queues(Queue{Name: "q"}, Queue{Name: "q", Type: Quorum}),
		"transient classic queue":  queues(Queue{Name: "q", Type: Classic, Transient: true, AutoDelete: true}),
		"stream":                   queues(Queue{Name: "q", Type: Stream, MaxAge: time.Hour, MaxLengthBytes: 1 << 30, MaxSegmentBytes: 1 << 20}),
		"longest name":             queues(Queue{Name: strings.Repeat("q", 255)}),
		"longest TTL":              queues(Queue{Name: "q", MessageTTL: validate.MaxTimer, Expires: validate.MaxTimer}),
		"TTL of zero":              queues(Queue{Name: "q", Arguments: args("x-message-ttl", int64(0))}),
		"one delivery":             queues(Queue{Name: "q", DeliveryLimit: new(0)}),
		"any number of deliveries": queues(Queue{Name: "q", DeliveryLimit: new(Unlimited)}),
		"at least once":            queues(Queue{Name: "q", Overflow: RejectPublish, DeadLetter: &DeadLetter{Exchange: "dlx", Strategy: AtLeastOnce}}),
		"priorities":               queues(Queue{Name: "q", Type: Classic, MaxPriority: 5}),
		"priorities, raw":          queues(Queue{Name: "q", Type: Classic, Arguments: args("x-max-priority", 5)}),
		"delayed retry":            queues(Queue{Name: "q", DelayedRetry: &DelayedRetry{Min: time.Millisecond, Max: validate.MaxTimer, Type: "all"}}),
		"returned":                 queues(Queue{Name: "q", DelayedRetry: &DelayedRetry{Min: time.Second, Type: "returned"}}),
		"equal delays":             queues(Queue{Name: "q", DelayedRetry: &DelayedRetry{Min: time.Minute}, DeliveryLimit: new(5), SingleActiveConsumer: true}),
		"equal integers":           queues(Queue{Name: "q", MaxLength: 5}, Queue{Name: "q", Arguments: args("x-max-length", int32(5))}),
		"own metadata":             queues(Queue{Name: "q", Arguments: args("team", "billing")}),
		"argument of a plugin":     queues(Queue{Name: "q", Arguments: args("x-message-deduplication", true), AllowUnknownArguments: true}),
		"exchange of a plugin":     exchanges(Exchange{Name: "x", Type: "x-delayed-message", Arguments: args("x-delayed-type", "topic")}),
		"alternate exchange":       exchanges(Exchange{Name: "x", Type: Fanout, AlternateExchange: "unrouted"}),
		"alternate exchange, raw":  exchanges(Exchange{Name: "x", Type: Fanout, Arguments: args("alternate-exchange", "unrouted")}),
		"predeclared exchange":     bindings(Binding{Source: "amq.topic", Queue: "q"}),
		"exchange to exchange":     bindings(Binding{Source: "amq.topic", Exchange: "x", Key: "#"}),
		"headers":                  bindings(Binding{Source: "amq.headers", Queue: "q", Arguments: amqp.Table{"x-match": "any", "a": 1}}),
		"every way to match": bindings(
			Binding{Source: "amq.match", Queue: "q", Arguments: amqp.Table{"x-match": "all", "a": 1}},
			Binding{Source: "amq.headers", Queue: "q", Arguments: amqp.Table{"x-match": "any-with-x", "x-a": 1}},
			Binding{Source: "amq.headers", Queue: "q", Arguments: amqp.Table{"x-match": "all-with-x", "x-death": nil}},
			Binding{Source: "amq.headers", Queue: "q", Arguments: amqp.Table{"a": true}},
			Binding{Source: "elsewhere", Queue: "q", Arguments: amqp.Table{"x-match": "any", "x-of-a-plugin": 1}},
		),
		"arguments that are meant": bindings(
			Binding{Source: "amq.headers", Queue: "q", Arguments: args("xmatch", "any"), AllowUnknownArguments: true},
			Binding{Source: "amq.topic", Queue: "q", Arguments: args("team", "billing"), AllowUnknownArguments: true},
		),
		"plugins": {
			Exchanges: []Exchange{
				{Name: "c", Type: "x-consistent-hash", Arguments: args("hash-header", "customer")},
				{Name: "p", Type: "x-consistent-hash", Arguments: args("hash-property", "message_id")},
				{Name: "r", Type: "x-recent-history", Arguments: amqp.Table{"x-recent-history-length": 5, "x-recent-history-no-store": true}},
				{Name: "other", Type: "x-other", Arguments: args("hash-headr", 1)},
				{Name: "meant", Type: "x-random", Arguments: args("x-new", 1), AllowUnknownArguments: true},
			},
			Bindings: []Binding{{Source: "c", Queue: "q", Key: "1"}, {Source: "other", Queue: "q", Arguments: args("x-any", 1)}},
		},
		"queue and exchange namely": {Queues: []Queue{{Name: "same"}}, Exchanges: []Exchange{{Name: "same", Type: Direct}}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := topology.Validate(); err != nil {
				t.Errorf("Validate = %v, want nil", err)
			}
		})
	}
}

func TestValidateNamesTheField(t *testing.T) {
	long := strings.Repeat("n", 256)
	for _, test := range []struct {
		topology Topology
		want     string // the fields, in order
	}{
		{exchanges(Exchange{}), `Exchanges[0] "".Name Exchanges[0] "".Type`},
		{exchanges(Exchange{Name: "amq.mine", Type: Topic}), `Exchanges[0] "amq.mine".Name`},
		{exchanges(Exchange{Name: "x", Type: Topic}, Exchange{Name: "x", Type: Fanout}), `Exchanges[1] "x".Name`},
		{exchanges(Exchange{Name: "x", Type: Topic, AlternateExchange: "\xff"}), `Exchanges[0] "x".AlternateExchange`},
		{exchanges(Exchange{Name: "x", Type: Topic, AlternateExchange: "a", Arguments: args("alternate-exchange", "b")}), `Exchanges[0] "x".Arguments["alternate-exchange"]`},
		{exchanges(Exchange{Name: "x", Type: Topic, Arguments: args("x-alternate-exchange", "b")}), `Exchanges[0] "x".Arguments["x-alternate-exchange"]`},
		{exchanges(Exchange{Name: "x", Type: Topic, Arguments: args("alternate-exchange", 1)}), `Exchanges[0] "x".Arguments["alternate-exchange"]`},
		{queues(Queue{}), `Queues[0] "".Name`},
		{queues(Queue{Type: Classic, Exclusive: true}), `Queues[0] "".Name`},
		{queues(Queue{Name: "amq.gen-1"}), `Queues[0] "amq.gen-1".Name`},
		{queues(Queue{Name: "q", Type: "mirrored"}), `Queues[0] "q".Type`},
		{queues(Queue{Name: "q", Transient: true, Exclusive: true, AutoDelete: true}), `Queues[0] "q".Transient Queues[0] "q".Exclusive Queues[0] "q".AutoDelete`},
		{queues(Queue{Name: "q", Type: Stream, Exclusive: true}), `Queues[0] "q".Exclusive`},
		{queues(Queue{Name: "a"}, Queue{Name: "b"}, Queue{Name: "a", MaxLength: 1}), `Queues[2] "a".Name`},
		{queues(Queue{Name: "q", MessageTTL: time.Microsecond}), `Queues[0] "q".MessageTTL`},
		{queues(Queue{Name: "q", MessageTTL: -time.Second}), `Queues[0] "q".MessageTTL`},
		{queues(Queue{Name: "q", Expires: validate.MaxTimer + time.Millisecond}), `Queues[0] "q".Expires`},
		{queues(Queue{Name: "q", Type: Stream, MaxAge: 1500 * time.Millisecond}), `Queues[0] "q".MaxAge`},
		{queues(Queue{Name: "q", MaxLength: -1, MaxLengthBytes: -1}), `Queues[0] "q".MaxLength Queues[0] "q".MaxLengthBytes`},
		{queues(Queue{Name: "q", Overflow: "drop-tail", LeaderLocator: "random"}), `Queues[0] "q".Overflow Queues[0] "q".LeaderLocator`},
		{queues(Queue{Name: "q", DeliveryLimit: new(-2)}), `Queues[0] "q".DeliveryLimit`},
		{queues(Queue{Name: "q", DeadLetter: &DeadLetter{Exchange: "\xff", RoutingKey: long, Strategy: "twice"}}), `Queues[0] "q".DeadLetter.Exchange Queues[0] "q".DeadLetter.RoutingKey Queues[0] "q".DeadLetter.Strategy`},
		{queues(Queue{Name: "q", MaxPriority: 5}, Queue{Name: "s", Type: Stream, MaxPriority: 5}), `Queues[0] "q".MaxPriority Queues[1] "s".MaxPriority`},
		{queues(Queue{Name: "q", Type: Classic, MaxPriority: 5, Arguments: args("x-max-priority", 5)}), `Queues[0] "q".Arguments["x-max-priority"]`},
		{queues(Queue{Name: "q", DelayedRetry: &DelayedRetry{}}), `Queues[0] "q".DelayedRetry.Min`},
		{queues(Queue{Name: "q", DelayedRetry: &DelayedRetry{Min: time.Microsecond, Max: -1, Type: "al"}}), `Queues[0] "q".DelayedRetry.Type Queues[0] "q".DelayedRetry.Min Queues[0] "q".DelayedRetry.Max Queues[0] "q".DelayedRetry.Max`},
		{queues(Queue{Name: "q", DelayedRetry: &DelayedRetry{Min: time.Second, Max: time.Minute, Type: "returned"}}), `Queues[0] "q".DelayedRetry.Max`},
		{queues(Queue{Name: "q", DelayedRetry: &DelayedRetry{Min: time.Minute, Max: time.Second}}), `Queues[0] "q".DelayedRetry.Max`},
		{queues(Queue{Name: "q", DelayedRetry: &DelayedRetry{Min: validate.MaxTimer + time.Millisecond}}), `Queues[0] "q".DelayedRetry.Min`},
		{queues(Queue{Name: "q", Type: Classic, DelayedRetry: &DelayedRetry{Min: time.Second}}), `Queues[0] "q".DelayedRetry`},
		{queues(Queue{Name: "q", DelayedRetry: &DelayedRetry{Min: time.Second}, Arguments: args("x-delayed-retry-max", 1)}), `Queues[0] "q".Arguments["x-delayed-retry-max"]`},
		{queues(Queue{Name: "q", Overflow: rejectPublishDLX}), `Queues[0] "q".Overflow`},
		{queues(Queue{Name: "q", DeadLetter: &DeadLetter{Strategy: AtLeastOnce}}), `Queues[0] "q".DeadLetter.Strategy`},
		{queues(Queue{Name: "q", Overflow: RejectPublish, Arguments: args("x-dead-letter-strategy", "at-least-once")}), `Queues[0] "q".DeadLetter.Strategy`},

		{queues(Queue{Name: "q", Type: Classic, DeliveryLimit: new(3)}), `Queues[0] "q".DeliveryLimit`},
		{queues(Queue{Name: "q", Type: Classic, DeadLetter: &DeadLetter{Strategy: "at-most-once"}}), `Queues[0] "q".DeadLetter.Strategy`},
		{queues(Queue{Name: "q", MaxAge: time.Hour, MaxSegmentBytes: 1}), `Queues[0] "q".MaxAge Queues[0] "q".MaxSegmentBytes`},
		{queues(Queue{Name: "q", Type: Stream, MessageTTL: time.Second, DeadLetter: &DeadLetter{}, SingleActiveConsumer: true}), `Queues[0] "q".MessageTTL Queues[0] "q".DeadLetter Queues[0] "q".SingleActiveConsumer`},
		{queues(Queue{Name: "q", Arguments: args("x-max-priority", 5)}), `Queues[0] "q".Arguments["x-max-priority"]`},
		{queues(Queue{Name: "q", Type: Classic, Arguments: args("x-queue-master-locator", "min-masters")}), `Queues[0] "q".Arguments["x-queue-master-locator"]`},
		{queues(Queue{Name: "q", Arguments: args("x-queue-type", "quorum")}), `Queues[0] "q".Arguments["x-queue-type"]`},
		{queues(Queue{Name: "q", MessageTTL: time.Second, Arguments: args("x-message-ttl", int64(1000))}), `Queues[0] "q".Arguments["x-message-ttl"]`},
		{queues(Queue{Name: "q", Arguments: args("x-delivery-limit", "3")}), `Queues[0] "q".Arguments["x-delivery-limit"]`},
		{queues(Queue{Name: "q", Arguments: args("x-dead-letter-routing-key", "k")}), `Queues[0] "q".Arguments["x-dead-letter-routing-key"]`},
		{queues(Queue{Name: "q", Arguments: args("x-foo", 1)}), `Queues[0] "q".Arguments["x-foo"]`},
		{queues(Queue{Name: "q", Arguments: args("u", uint64(1<<63))}), `Queues[0] "q".Arguments["u"]`},

		{exchanges(Exchange{Name: "x", Type: "x-consistent-hash", Arguments: args("hash-headr", "a")}), `Exchanges[0] "x".Arguments["hash-headr"]`},
		{exchanges(Exchange{Name: "x", Type: "x-consistent-hash", Arguments: args("hash-property", "id")}), `Exchanges[0] "x".Arguments["hash-property"]`},
		{exchanges(Exchange{Name: "x", Type: "x-consistent-hash", Arguments: amqp.Table{"hash-property": "message_id", "hash-header": "h"}}), `Exchanges[0] "x".Arguments["hash-property"]`},
		{exchanges(Exchange{Name: "x", Type: "x-delayed-message", Arguments: args("x-delayed-typ", "topic")}), `Exchanges[0] "x".Arguments["x-delayed-typ"] Exchanges[0] "x".Arguments["x-delayed-type"]`},
		{exchanges(Exchange{Name: "x", Type: "x-recent-history", Arguments: args("x-recent-history-length", "5")}), `Exchanges[0] "x".Arguments["x-recent-history-length"]`},
		{exchanges(Exchange{Name: "x", Type: "x-random", Arguments: args("x-match", "all")}), `Exchanges[0] "x".Arguments["x-match"]`},

		{bindings(Binding{Source: "amq.headers", Queue: "q", Arguments: args("xmatch", "any")}), `Bindings[0].Arguments["xmatch"]`},
		{bindings(Binding{Source: "elsewhere", Queue: "q", Arguments: args("x-macth", "any")}), `Bindings[0].Arguments["x-macth"]`},
		{bindings(Binding{Source: "amq.match", Queue: "q", Arguments: args("x-match", "some")}), `Bindings[0].Arguments["x-match"]`},
		{bindings(Binding{Source: "elsewhere", Queue: "q", Arguments: args("x-match", true)}), `Bindings[0].Arguments["x-match"]`},
		{bindings(Binding{Source: "amq.headers", Queue: "q", Arguments: amqp.Table{"x-match": "any", "x-death": nil}}), `Bindings[0].Arguments["x-death"]`},
		{bindings(Binding{Source: "amq.topic", Queue: "q", Arguments: amqp.Table{"x-match": "all", "kind": "paid"}}), `Bindings[0].Arguments["kind"] Bindings[0].Arguments["x-match"]`},
		{Topology{
			Exchanges: []Exchange{{Name: "h", Type: Headers}, {Name: "d", Type: "x-delayed-message", Arguments: args("x-delayed-type", "direct")}, {Name: "c", Type: "x-consistent-hash"}},
			Bindings: []Binding{
				{Source: "h", Exchange: "d", Arguments: args("xmatch", "any")},
				{Source: "d", Queue: "q", Arguments: args("kind", "paid")},
				{Source: "c", Queue: "q", Key: "order"},
				{Source: "c", Queue: "q", Key: "0"},
			},
		}, `Bindings[0].Arguments["xmatch"] Bindings[1].Arguments["kind"] Bindings[2].Key Bindings[3].Key`},

		{bindings(Binding{}), `Bindings[0].Source Bindings[0].Queue`},
		{bindings(Binding{Queue: "q"}), `Bindings[0].Source`},
		{bindings(Binding{Source: "x"}, Binding{Source: "x", Queue: "q", Exchange: "y"}), `Bindings[0].Queue Bindings[1].Queue`},
		{bindings(Binding{Source: "x", Queue: "q", Key: long}), `Bindings[0].Key`},
		{bindings(Binding{Source: "x", Queue: "q", Arguments: args("h", []string{"a"})}), `Bindings[0].Arguments["h"]`},
	} {
		if got := strings.Join(fields(test.topology.Validate()), " "); got != test.want {
			t.Errorf("faults of %+v\n got %s\nwant %s", test.topology, got, test.want)
		}
	}
}

// fields returns the fields of all the errors joined in err.
func fields(err error) []string {
	var names []string
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range many.Unwrap() {
			names = append(names, fields(err)...)
		}
	}
	if f, ok := err.(*amqperr.FieldError); ok {
		names = append(names, f.Field)
	}
	return names
}

func TestValidateGuessesWhatWasMeant(t *testing.T) {
	for key, want := range map[string]string{
		"x-mesage-ttl":          `did you mean "x-message-ttl"?`,
		"x-max-lenght":          `did you mean "x-max-length"?`,
		"message-ttl":           `did you mean "x-message-ttl"?`,
		"dead-letter-exchange":  `did you mean "x-dead-letter-exchange"?`,
		"x-deadletter-exchange": `did you mean "x-dead-letter-exchange"?`,
		"x-something-else":      "AllowUnknownArguments",
	} {
		err := queues(Queue{Name: "q", Arguments: args(key, 1)}).Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate with %s = %v, want %s in it", key, err, want)
		}
	}
}

func TestNothingInvalidReachesTheBroker(t *testing.T) {
	wrong := Topology{Queues: []Queue{{}}}
	var field *amqperr.FieldError
	if err := wrong.Declare(t.Context(), nil); !errors.As(err, &field) {
		t.Errorf("Declare = %v, want a FieldError", err)
	}
	if err := wrong.Verify(t.Context(), nil); !errors.As(err, &field) {
		t.Errorf("Verify = %v, want a FieldError", err)
	}
	for _, q := range []Queue{{}, {Type: Classic}, {Type: Classic, Exclusive: true, MaxLength: -1}, {Name: "q", AutoDelete: true}} {
		if _, err := q.Declare(t.Context(), nil); !errors.As(err, &field) {
			t.Errorf("Declare of %+v = %v, want a FieldError", q, err)
		}
	}
}

func TestContradictionNamesTheAttributeAndBothPlaces(t *testing.T) {
	for want, topology := range map[string]Topology{
		`topology: Queues[1] "a".Name: is also the name of Queues[0], but x-max-length is none there and 5 here; declare it once, or make both equal`: queues(
			Queue{Name: "a"}, Queue{Name: "a", MaxLength: 5}),
		`Queues[1] "a".Name: is also the name of Queues[0], but durable is false there and true here`: queues(
			Queue{Name: "a", Type: Classic, Transient: true}, Queue{Name: "a", Type: Classic}),
		`Exchanges[1] "x".Name: is also the name of Exchanges[0], but type is "topic" there and "fanout" here`: exchanges(
			Exchange{Name: "x", Type: Topic}, Exchange{Name: "x", Type: Fanout}),
	} {
		if err := topology.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %s in it", err, want)
		}
	}
}

func TestPrioritiesOnAQuorumQueueNameTheFix(t *testing.T) {
	err := queues(Queue{Name: "q", MaxPriority: 5}).Validate()
	if err == nil || !strings.Contains(err.Error(), "a quorum queue has priorities without it") || !strings.Contains(err.Error(), "topology.Classic") {
		t.Errorf("Validate = %v, want both ways to priorities", err)
	}
}

// A broker that would ignore a field is refused, and the next node may be newer.
func TestS83FieldsThatTheVersionIgnoresAreRefused(t *testing.T) {
	delayed := Queue{Name: "q", DelayedRetry: &DelayedRetry{Min: time.Second}}
	unlimited := Queue{Name: "q", DeliveryLimit: new(Unlimited)}
	for _, test := range []struct {
		q          Queue
		properties amqp.Table
		broker     string // of the error; empty if the queue is accepted
	}{
		{delayed, amqp.Table{"product": "RabbitMQ", "version": "4.3.0"}, ""},
		{delayed, amqp.Table{"product": "RabbitMQ", "version": "5.0.0-beta.1"}, ""},
		{delayed, amqp.Table{"product": "RabbitMQ", "version": "4.2.9"}, "4.2.9"},
		{delayed, amqp.Table{"product": "RabbitMQ", "version": "3.13.7"}, "3.13.7"},
		{delayed, amqp.Table{"product": "LavinMQ", "version": "5.0.0"}, "5.0.0"},
		{delayed, amqp.Table{"product": "RabbitMQ"}, "unknown"},
		{delayed, amqp.Table{}, "unknown"},
		{unlimited, amqp.Table{"product": "RabbitMQ", "version": "4.0.5"}, ""},
		{unlimited, amqp.Table{"product": "RabbitMQ", "version": "3.13.7"}, "3.13.7"},
		{unlimited, amqp.Table{}, ""},
		{Queue{Name: "q"}, amqp.Table{}, ""},
	} {
		ac := &amqp.Connection{Properties: test.properties}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // so that an accepted queue is not declared
		_, err := test.q.Declare(ctx, ac)
		for _, err := range []error{err, queues(test.q).Declare(ctx, ac)} {
			f, refused := errors.AsType[*amqperr.FieldError](err)
			if refused != (test.broker != "") || refused && (f.Broker != test.broker || f.Permanent() || f.Fix == "") {
				t.Errorf("Declare on %v = %v, want a refusal for %q", test.properties, err, test.broker)
			}
		}
	}
}

// S44: what dead letters go through is there before the queues that may have some.
func TestDeadLettersHaveSomewhereToGoBeforeThereAreAny(t *testing.T) {
	phases := Topology{
		Exchanges: []Exchange{{Name: "in", Type: Direct}, {Name: "dlx", Type: Direct}},
		Queues:    []Queue{{Name: "work", DeadLetter: &DeadLetter{Exchange: "dlx"}}, {Name: "dead"}, {Name: "raw", Arguments: args("x-dead-letter-exchange", "dlx")}},
		Bindings:  []Binding{{Source: "in", Queue: "work"}, {Source: "dlx", Queue: "dead"}, {Source: "in", Queue: "raw"}, {Source: "in", Exchange: "dlx"}},
	}.phases()
	var got []string
	for _, steps := range phases {
		names := []string{}
		for _, s := range steps {
			if s.makes.name == "" {
				names = append(names, fmt.Sprint(s.at, " to ", s.needs[1].name+s.needs[2].name))
			} else {
				names = append(names, fmt.Sprint(s.at, " ", s.makes.name))
			}
		}
		got = append(got, strings.Join(names, ", "))
	}
	if want := []string{"0 in, 1 dlx", "3 dead", "6 to dead, 8 to dlx", "2 work, 4 raw", "5 to work, 7 to raw"}; !slices.Equal(got, want) {
		t.Errorf("phases:\n got %q\nwant %q", got, want)
	}
}

func TestEndedContextReachesNoBroker(t *testing.T) {
	why := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	all := Topology{Exchanges: []Exchange{{Name: "x", Type: Direct}}, Queues: make([]Queue, 0, 20)}
	for _, name := range strings.Split("abcdefghijklmnopqrst", "") {
		all.Queues = append(all.Queues, Queue{Name: name})
	}
	for what, f := range map[string]func(context.Context, *amqp.Connection) error{"Declare": all.Declare, "Verify": all.Verify} {
		err := f(ctx, nil)
		if !errors.Is(err, why) {
			t.Errorf("%s = %v, want its cause", what, err)
		} else if n := strings.Count(err.Error(), why.Error()); n != 1 {
			t.Errorf("%s gives the cause %d times:\n%v", what, n, err)
		}
	}
}

func TestEveryFieldIsSent(t *testing.T) {
	got := Queue{
		Name:       "q",
		MessageTTL: time.Minute, Expires: time.Hour,
		MaxLength: 10, MaxLengthBytes: 1000, Overflow: RejectPublish,
		DeadLetter:    &DeadLetter{Exchange: "dlx", RoutingKey: "dead", Strategy: AtLeastOnce},
		DeliveryLimit: new(3), SingleActiveConsumer: true, LeaderLocator: "balanced",
		Arguments: args("x-quorum-initial-group-size", 3),
	}.request()
	want := queueRequest{name: "q", durable: true, args: amqp.Table{
		"x-queue-type":  "quorum",
		"x-message-ttl": int64(60_000), "x-expires": int64(3_600_000),
		"x-max-length": int64(10), "x-max-length-bytes": int64(1000), "x-overflow": "reject-publish",
		"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "dead", "x-dead-letter-strategy": "at-least-once",
		"x-delivery-limit": int64(3), "x-single-active-consumer": true, "x-queue-leader-locator": "balanced",
		"x-quorum-initial-group-size": 3,
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("quorum:\n got %v\nwant %v", got, want)
	}

	got = Queue{Name: "d", DelayedRetry: &DelayedRetry{Min: time.Second}}.request()
	want = queueRequest{name: "d", durable: true, args: amqp.Table{
		"x-queue-type": "quorum", "x-delayed-retry-type": "failed", "x-delayed-retry-min": int64(1000), "x-delayed-retry-max": int64(1000),
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("delayed retry:\n got %v\nwant %v", got, want)
	}

	got = Queue{Name: "p", Type: Classic, MaxPriority: 5}.request()
	want = queueRequest{name: "p", durable: true, args: amqp.Table{"x-queue-type": "classic", "x-max-priority": int64(5)}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("priorities:\n got %v\nwant %v", got, want)
	}

	got = Queue{Name: "s", Type: Stream, MaxAge: time.Hour, MaxSegmentBytes: 500}.request()
	want = queueRequest{name: "s", durable: true, args: amqp.Table{
		"x-queue-type": "stream", "x-max-age": "3600s", "x-stream-max-segment-size-bytes": int64(500),
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("stream:\n got %v\nwant %v", got, want)
	}

	got = Queue{Type: Classic, Transient: true, Exclusive: true, AutoDelete: true, DeadLetter: &DeadLetter{}}.request()
	want = queueRequest{autoDelete: true, exclusive: true, args: amqp.Table{"x-queue-type": "classic", "x-dead-letter-exchange": ""}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("classic:\n got %v\nwant %v", got, want)
	}

	if got, want := slices.Sorted(maps.Keys(Queue{}.request().args)), []string{"x-queue-type"}; !slices.Equal(got, want) {
		t.Errorf("the zero Queue sends %v, want %v", got, want)
	}
	x := Exchange{Name: "x", Type: Topic, Transient: true, AutoDelete: true, Internal: true, AlternateExchange: "alt"}.request()
	if want := (exchangeRequest{"x", "topic", false, true, true, args("alternate-exchange", "alt")}); !reflect.DeepEqual(x, want) {
		t.Errorf("exchange:\n got %v\nwant %v", x, want)
	}
}

func TestArgumentsOfTheCallerAreLeftAlone(t *testing.T) {
	mine := args("x-max-length", int64(5))
	q := Queue{Name: "q", MessageTTL: time.Second, Arguments: mine}
	q.request().args["x-max-length"] = int64(6)
	if want := args("x-max-length", int64(5)); !reflect.DeepEqual(mine, want) {
		t.Errorf("Arguments became %v, want %v", mine, want)
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("orders", "topic", "quorum", "order.*", "x-mesage-ttl", int64(60_000), 3, uint8(0))
	f.Add("", "", "", "#.*.#", "alternate-exchange", int64(-1), -2, uint8(255))
	f.Fuzz(func(t *testing.T, name, kind, queueType, key, argument string, n int64, limit int, flags uint8) {
		on := func(bit uint8) bool { return flags&bit != 0 }
		table := amqp.Table{argument: n}
		topology := Topology{
			Exchanges: []Exchange{{Name: name, Type: ExchangeType(kind), Transient: on(1), AlternateExchange: key, Arguments: table}, {Name: key, Type: Topic}},
			Queues: []Queue{
				{Name: key, MessageTTL: time.Duration(n), DeadLetter: &DeadLetter{Exchange: name, RoutingKey: argument}},
				{
					Name: name, Type: QueueType(queueType), Exclusive: on(2), AutoDelete: on(4), Expires: time.Duration(n), MaxLength: n,
					DeliveryLimit: &limit, DeadLetter: &DeadLetter{RoutingKey: key, Strategy: kind}, Arguments: table, AllowUnknownArguments: on(8),
				},
			},
			Bindings: []Binding{{Source: name, Queue: key, Key: key}, {Source: key, Exchange: name, Key: argument}},
		}
		err := topology.Validate()
		if err != nil && len(fields(err)) == 0 {
			t.Errorf("Validate = %v, want FieldErrors", err)
		}
	})
}

func TestDelayedRetryRequiresMin(t *testing.T) {
	err := queues(Queue{Name: "q", DelayedRetry: &DelayedRetry{}}).Validate()
	if want := `topology: Queues[0] "q".DelayedRetry.Min: is required; write a delay`; err == nil || err.Error() != want {
		t.Errorf("Validate = %v, want %s", err, want)
	}
}

func TestTableThatContainsItselfIsReportedAndEndsNothing(t *testing.T) {
	table, list := amqp.Table{"x-a": 1}, []any{nil}
	table["x-self"], table["x-again"], list[0] = table, table, list
	var topo Topology
	for _, args := range []amqp.Table{table, {"x-list": list}} {
		topo = Merge(topo, Topology{
			Exchanges: []Exchange{{Name: "x", Type: Headers, Arguments: args, AllowUnknownArguments: true}},
			Queues:    []Queue{{Name: "q", Arguments: args, AllowUnknownArguments: true}},
			Bindings:  []Binding{{Source: "x", Queue: "q", Arguments: args, AllowUnknownArguments: true}},
		})
	}
	if err := topo.Validate(); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("Validate = %v", err)
	}
	if findings, err := topo.Lint(""); len(findings) == 0 || err != nil {
		t.Errorf("Lint = %v, %v", findings, err)
	}
	if p := Diff(topo, Existing{Topology: topo}); p.String() == "" {
		t.Error("Diff is empty")
	}
	if _, err := topo.Definitions("/"); err == nil {
		t.Error("Definitions wrote it")
	}
}
