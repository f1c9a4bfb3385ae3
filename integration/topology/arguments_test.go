package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// RabbitMQ accepts a misspelt x-match as the name of a header, and then routes nothing.
func TestS91BindingArgumentsAreChecked(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	misspelt := amqp.Table{"xmatch": "any", "kind": "paid", "country": "DE"}
	bad := topology.Topology{Bindings: []topology.Binding{{Source: "amq.headers", Queue: name("bad"), Arguments: misspelt}}}
	var wrong *amqperr.FieldError
	if err := bad.Declare(t.Context(), ac); !errors.As(err, &wrong) || wrong.Field != `Bindings[0].Arguments["xmatch"]` || !strings.Contains(wrong.Fix, `"x-match"`) {
		t.Errorf("Declare = %v, want a FieldError that names x-match", err)
	}
	topo := topology.Topology{
		Exchanges: []topology.Exchange{{Name: name("in"), Type: topology.Headers}},
		Queues:    []topology.Queue{{Name: name("bad")}},
	}
	for _, args := range []amqp.Table{
		{"x-match": "all", "kind": "paid"},
		{"x-match": "any", "kind": "paid", "country": "DE"},
		{"kind": "paid"},
		{"x-match": "all-with-x", "x-region": "eu"},
		{"x-match": "any-with-x", "x-region": "eu"},
	} {
		queue := name(fmt.Sprint(args))
		topo.Queues = append(topo.Queues, topology.Queue{Name: queue})
		topo.Bindings = append(topo.Bindings, topology.Binding{Source: name("in"), Queue: queue, Arguments: args})
	}
	kit.Declared(t, ac, topo)
	ch := kit.RawChannel(t)
	if err := ch.QueueBind(name("bad"), "", name("in"), false, misspelt); err != nil {
		t.Errorf("RabbitMQ refused it: %v", err)
	}
	kit.WaitFor(t, func() bool { // RabbitMQ 4.3 routes by a new binding a moment after it has confirmed it
		paid := amqp.Publishing{Headers: amqp.Table{"kind": "paid", "x-region": "eu"}}
		if err := ch.PublishWithContext(t.Context(), name("in"), "", false, false, paid); err != nil {
			t.Fatal(err)
		}
		for _, q := range topo.Queues[1:] {
			held, err := ch.QueueDeclarePassive(q.Name, false, false, false, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			if held.Messages == 0 {
				return false
			}
		}
		return true
	})
	if n := kit.Ready(t, name("bad")); n != 0 {
		t.Errorf("the misspelt binding routed %d messages", n)
	}
}

// RabbitMQ accepts a misspelt x-stream-offset, and then delivers from "next".
func TestS91ConsumeArgumentsAreChecked(t *testing.T) {
	b := kit.NewConsumerBench(t)
	name := kit.Prefixed(t)("stream")
	kit.Declared(t, kit.DialRaw(t), topology.Topology{Queues: []topology.Queue{{Name: name, Type: topology.Stream}}})
	misspelt := amqp.Table{"x-stream-ofset": "first"}
	handler := func(context.Context, *consumer.Delivery) error { return nil }
	var wrong *amqperr.FieldError
	if _, err := consumer.New(b.Conn, consumer.Config{Queue: name, Arguments: misspelt}, handler); !errors.As(err, &wrong) ||
		wrong.Field != `Arguments["x-stream-ofset"]` || !strings.Contains(wrong.Fix, `"x-stream-offset"`) {
		t.Errorf("New = %v, want a FieldError that names x-stream-offset", err)
	}
	ch := kit.RawChannel(t)
	if err := ch.Qos(10, 0, false); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Consume(name, "", false, false, false, false, misspelt); err != nil {
		t.Errorf("RabbitMQ refused it: %v", err)
	}
	queue := b.Queue(nil)
	for _, test := range []struct {
		queue string
		args  amqp.Table
	}{
		{queue, amqp.Table{"x-priority": 5, "x-cancel-on-ha-failover": true, "team": "billing"}},
		{queue, amqp.Table{"x-consumer-timeout": int64(60_000)}},
		{name, amqp.Table{"x-stream-offset": "first", "x-stream-filter": "eu", "x-stream-match-unfiltered": true}},
		{name, amqp.Table{"x-stream-offset": "first", "x-stream-filter": []any{"eu", "us"}}},
		{queue, amqp.Table{"x-of-a-plugin": 1}},
	} {
		cfg := consumer.Config{Queue: test.queue, Arguments: test.args, Logger: slog.New(slog.DiscardHandler), AllowUnknownArguments: test.args["x-of-a-plugin"] != nil}
		got := make(chan string, 1)
		r := b.Start(cfg, func(_ context.Context, d *consumer.Delivery) error {
			select {
			case got <- d.MessageId:
			default: // a stream is read from its beginning each time
			}
			return nil
		})
		msg := amqp.Publishing{MessageId: "m", Headers: amqp.Table{"x-stream-filter-value": "eu"}}
		if err := b.Plain.PublishWithContext(t.Context(), "", test.queue, true, false, msg); err != nil {
			t.Fatal(err)
		}
		kit.Receive(t, got, "delivery")
		r.StopClean()
	}
}

// amqp091-go would send the low 32 bits of an int, and cannot write a uint.
func TestS91IntegersThatFitAreSent(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	large := int64(5) << 30
	topo := topology.Topology{
		Queues: []topology.Queue{{Name: name("q"), Arguments: amqp.Table{"x-max-length": uint(7), "x-max-length-bytes": uint64(5 << 30)}}},
		Bindings: []topology.Binding{
			{Source: "amq.headers", Queue: name("q"), Arguments: amqp.Table{"id": int(large), "small": 5, "test": name("")}},
			{Source: "amq.headers", Queue: name("q"), Arguments: amqp.Table{"id": uint(9), "test": name("")}},
		},
	}
	for range 2 { // the second time with nothing to do
		if err := topo.Declare(kit.Within(t, 20*time.Second), ac); err != nil {
			t.Fatal(err)
		}
	}
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{})
	for _, h := range []amqp.Table{{"id": int(large), "small": 5, "test": name("")}, {"id": uint(9), "test": name("")}} {
		if err := p.Publish(kit.Within(t, 20*time.Second), "amq.headers", "", amqp.Publishing{Headers: h}); err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
	_ = kit.Take(t, name("q"), 2)
}
