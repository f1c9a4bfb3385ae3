package amqptest_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
)

func TestPublishRoutesLikeAClientsPublish(t *testing.T) {
	broker := amqptest.Start(t)
	_, ch := dial(t, broker)
	declare := func(name string, args amqp.Table) {
		if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
			t.Fatal(err)
		}
	}
	declare("orders", nil)
	declare("full", amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	if err := ch.QueueBind("orders", "order.*", "amq.topic", false, nil); err != nil {
		t.Fatal(err)
	}
	var refused *amqptest.PublishError
	for _, c := range []struct {
		exchange, key string
		msg           amqptest.Message
		routed        bool
		check         func(error) bool
	}{
		{"", "orders", amqptest.Message{}, true, nil},
		{"amq.topic", "order.paid", amqptest.Message{}, true, nil},
		{"amq.topic", "invoice", amqptest.Message{}, false, nil},
		{"", "full", amqptest.Message{}, true, nil},
		{"", "full", amqptest.Message{}, true, func(err error) bool { return errors.Is(err, amqptest.ErrNacked) }},
		{"nowhere", "orders", amqptest.Message{}, false, func(err error) bool {
			return errors.As(err, &refused) && refused.Code == 404 && refused.Text == "NOT_FOUND - no exchange 'nowhere' in vhost '/'"
		}},
		{"", "orders", amqptest.Message{Expiration: "soon"}, false, func(err error) bool {
			return errors.As(err, &refused) && refused.Code == 406
		}},
		{"", "orders", amqptest.Message{MessageID: strings.Repeat("x", 256)}, false, func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "Message.MessageID")
		}},
		{"", "orders", amqptest.Message{Headers: map[string]any{"list": []any{1, make(chan int)}}}, false, func(err error) bool {
			return err != nil && strings.Contains(err.Error(), `Message.Headers["list"][1]`)
		}},
	} {
		routed, err := broker.Publish(c.exchange, c.key, c.msg)
		if routed != c.routed || (c.check == nil) != (err == nil) || err != nil && !c.check(err) {
			t.Errorf("Publish(%q, %q, %+v) = %v, %v, want %v", c.exchange, c.key, c.msg, routed, err, c.routed)
		}
	}
	if n := len(broker.Messages("orders")); n != 2 {
		t.Errorf("%d messages in orders, want 2", n)
	}
	if n := len(broker.Published()); n != 5 {
		t.Errorf("%d messages recorded as published, want 5", n)
	}
	broker.Stop()
	if _, err := broker.Publish("", "orders", amqptest.Message{}); !errors.Is(err, amqptest.ErrClosed) {
		t.Errorf("Publish = %v while stopped, want ErrClosed", err)
	}
}

func TestPublishedPropertiesReachTheConsumer(t *testing.T) {
	broker := amqptest.Start(t)
	_, ch := dial(t, broker)
	if _, err := ch.QueueDeclare("orders", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 0)
	headers := amqp.Table{"n": int64(7), "nested": amqp.Table{"list": []any{"a", int32(1), nil}}, "raw": []byte("b")}
	_, err := broker.Publish("", "orders", amqptest.Message{
		Headers: headers, ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: 2, Priority: 3, CorrelationID: "c",
		ReplyTo: "r", Expiration: "60000", MessageID: "m", Timestamp: at, Type: "t", AppID: "a", UserID: "guest", Body: []byte("body"),
	})
	if err != nil {
		t.Fatal(err)
	}
	d, ok, err := ch.Get("orders", true)
	if err != nil || !ok {
		t.Fatalf("Get = %v, %v", ok, err)
	}
	got := amqp.Publishing{
		Headers: d.Headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
		CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId, Timestamp: d.Timestamp,
		Type: d.Type, AppId: d.AppId, UserId: d.UserId, Body: d.Body,
	}
	want := amqp.Publishing{
		Headers: headers, ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: 2, Priority: 3, CorrelationId: "c",
		ReplyTo: "r", Expiration: "60000", MessageId: "m", Timestamp: at, Type: "t", AppId: "a", UserId: "guest", Body: []byte("body"),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
