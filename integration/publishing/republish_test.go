package publishing

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

// Everything that amqp091-go can read from RabbitMQ can be moved to another queue.
func TestS71RepublishCarriesWhateverWasReceived(t *testing.T) {
	many := amqp.Table{}
	for i := range 8000 {
		many[fmt.Sprint("h", i)] = nil
	}
	large := amqp.Table{"x": strings.Repeat("x", 131_072-8-14-(4+1+1+1+4)-(1+1))} // a full frame, with a message id of one byte
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{AllowUnroutable: true})
	from, to := kit.QuorumQueue(t, nil), kit.QuorumQueue(t, nil)
	ch := kit.RawChannel(t)
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	ctx := kit.Within(t, 20*time.Second)
	get := func(queue string) amqp.Delivery {
		t.Helper()
		for {
			d, ok, err := ch.Get(queue, true)
			if err != nil || ctx.Err() != nil {
				t.Fatalf("get from %s: %v", queue, err)
			}
			if ok {
				return d
			}
		}
	}
	for name, msg := range map[string]amqp.Publishing{
		"nested 32 deep":  {Headers: nested(33)},
		"8,000 headers":   {Headers: many},
		"latin-1 names":   {Headers: amqp.Table{"caf\xe9": "caf\xe9"}, ReplyTo: "caf\xe9", AppId: "\xe9"},
		"a full frame":    {Headers: large},
		"transient":       {DeliveryMode: amqp.Transient},
		"mode 3":          {DeliveryMode: 3},
		"odd expiration":  {Expiration: "+0600000"},
		"odd filter":      {Headers: amqp.Table{"x-stream-filter-value": int32(1)}},
		"old and negated": {Headers: amqp.Table{"t": time.Time{}, "s": int16(-1), "d": amqp.Decimal{Scale: 2, Value: -1}}, Timestamp: time.Unix(-1, 0)},
		"a list for CC":   {Headers: amqp.Table{"CC": []any{int32(1)}}},
	} {
		msg.MessageId = "1"
		// As another client publishes it.
		confirm, err := ch.PublishWithDeferredConfirm("", from, true, false, msg)
		if err != nil {
			t.Fatal(name, err)
		}
		if acked, err := confirm.WaitContext(ctx); err != nil || !acked {
			t.Fatalf("%s: RabbitMQ does not take the original: %v %v", name, acked, err)
		}
		d := get(from)
		if err := p.Republish(ctx, "", to, republished(&d)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		moved := get(to)
		delete(moved.Headers, "x-delivery-count")
		delete(d.Headers, "x-delivery-count")
		if len(moved.Headers) != len(msg.Headers) || fmt.Sprint(moved.Headers) != fmt.Sprint(d.Headers) || moved.DeliveryMode != d.DeliveryMode ||
			moved.ReplyTo != d.ReplyTo || moved.AppId != d.AppId || moved.Expiration != d.Expiration || !moved.Timestamp.Equal(d.Timestamp) {
			t.Errorf("%s: something is missing: %.500v", name, moved)
		}
	}
	if err := p.Republish(ctx, "", kit.Unique("nowhere"), amqp.Publishing{}); err == nil {
		t.Error("AllowUnroutable let a republished message vanish")
	}
}

// republished is a received message, to be published again.
func republished(d *amqp.Delivery) amqp.Publishing {
	return amqp.Publishing{
		Headers: maps.Clone(d.Headers), ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode,
		Priority: d.Priority, CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId,
		Timestamp: d.Timestamp, Type: d.Type, AppId: d.AppId, Body: d.Body,
	}
}
