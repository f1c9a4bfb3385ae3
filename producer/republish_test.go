package producer_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/producer"
)

// everything is a message with each property and each type of header.
func everything() amqp.Publishing {
	return amqp.Publishing{
		Headers: amqp.Table{
			"a": nil, "b": true, "c": int8(-1), "d": uint8(1), "e": int16(-1), "f": uint16(1), "g": int32(-1),
			"h": uint32(1), "i": int64(-1), "j": float32(1), "k": 1.5, "l": amqp.Decimal{Scale: 1, Value: 2}, "m": "s", "n": []byte("b"),
			"o": time.Unix(-1, 0), "p": amqp.Table{"q": []any{int64(1), "s", amqp.Table{}}}, "\xe9": "latin-1",
		},
		ContentType: "c", ContentEncoding: "e", DeliveryMode: amqp.Transient, Priority: 1, CorrelationId: "c", ReplyTo: "caf\xe9",
		Expiration: "+60000", MessageId: "m", Timestamp: time.Unix(1, 0), Type: "t", AppId: "a", Body: []byte("body"),
	}
}

func TestRepublishFillsAFrameToTheLastByte(t *testing.T) {
	const frame = 131_072 // negotiated by the in-memory broker
	_, p := start(t, producer.Config{})
	msg := everything()
	headers, _ := validate.Received(msg.Headers, frame)
	room := frame - validate.FrameOverhead - validate.HeaderSize(&msg, headers)
	const entry = 1 + len("fill") + 1 + 4
	msg.Headers["fill"] = strings.Repeat("x", room-entry)
	if err := p.Republish(t.Context(), "", "orders", msg); err != nil {
		t.Errorf("a header frame that fits: %v", err)
	}
	msg.Headers["fill"] = strings.Repeat("x", room-entry+1)
	err := p.Republish(t.Context(), "", "orders", msg)
	var field *amqperr.FieldError
	if !errors.As(err, &field) || !errors.Is(err, producer.ErrNotPublished) || !strings.Contains(field.Problem, "1 more than a frame") {
		t.Errorf("one byte more: %v, want a amqperr.FieldError of Headers", err)
	}
}

func TestRepublishSendsWhatWasReceived(t *testing.T) {
	b, p := start(t, producer.Config{})
	msg := everything()
	for _, mode := range []uint8{0, 1, 2, 3} {
		msg.DeliveryMode = mode
		if err := p.Republish(t.Context(), "", "orders", msg); err != nil {
			t.Fatal(err)
		}
	}
	deep := amqp.Table{"x": true}
	for range 32 {
		deep = amqp.Table{"t": deep}
	}
	receipt, err := p.RepublishAsync(t.Context(), "", "orders", amqp.Publishing{Headers: deep})
	if err != nil {
		t.Fatal(err)
	}
	if err := receipt.Wait(t.Context()); err != nil || receipt.MessageID() == "" {
		t.Errorf("headers nested 32 deep: %v, id %q", err, receipt.MessageID())
	}
	for i, m := range b.Messages("orders")[1:] { // the last one has a lower priority
		if int(m.DeliveryMode) != i || m.ReplyTo != msg.ReplyTo || m.Expiration != "60000" || m.Headers["\xe9"] != "latin-1" {
			t.Errorf("delivery mode %d: %+v", i, m)
		}
	}
}

func TestRepublishIsMandatoryWhateverTheConfig(t *testing.T) {
	_, p := start(t, producer.Config{AllowUnroutable: true})
	if err := p.Publish(t.Context(), "", "nowhere", amqp.Publishing{}); err != nil {
		t.Errorf("Publish with AllowUnroutable: %v", err)
	}
	var returned *producer.ReturnedError
	if err := p.Republish(t.Context(), "", "nowhere", amqp.Publishing{}); !errors.As(err, &returned) {
		t.Errorf("Republish with AllowUnroutable: %v, want a ReturnedError", err)
	}
}

func TestRepublishRefusesWhatClosesTheChannel(t *testing.T) {
	_, p := start(t, producer.Config{})
	cyclic := amqp.Table{}
	cyclic["a"] = []any{cyclic}
	for name, msg := range map[string]amqp.Publishing{
		"Headers[":    {Headers: cyclic},
		"MessageId":   {MessageId: strings.Repeat("x", 256)},
		"ReplyTo":     {ReplyTo: "amq.rabbitmq.reply-to"},
		"Expiration":  {Expiration: "-1"},
		`["CC"]`:      {Headers: amqp.Table{"CC": "orders"}},
		`["struct"]`:  {Headers: amqp.Table{"struct": struct{}{}}},
		"ContentType": {ContentType: strings.Repeat("x", 256)},
		"Body":        {Body: make([]byte, 16<<20+1)},
	} {
		err := p.Republish(t.Context(), "", "orders", msg)
		var field *amqperr.FieldError
		if !errors.As(err, &field) || !errors.Is(err, producer.ErrNotPublished) || !strings.Contains(field.Field, name) || field.Fix == "" {
			t.Errorf("%s: %v, want a FieldError", name, err)
		}
	}
}
