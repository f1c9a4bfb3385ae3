package producer

import (
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestConfigReportsEveryWrongFieldAtOnce(t *testing.T) {
	_, err := New(nil, Config{})
	var field *FieldError
	if !errors.As(err, &field) || field.Field != "conn" {
		t.Errorf("New(nil) = %v", err)
	}
	err = Config{Resend: 7, MaxInFlight: 65536, MaxInFlightBytes: -1, MaxMessageSize: -1, ConfirmTimeout: -1}.validate()
	for _, name := range []string{"Resend", "MaxInFlight", "MaxInFlightBytes", "MaxMessageSize", "ConfirmTimeout"} {
		if err == nil || !strings.Contains(err.Error(), "producer: "+name+": ") {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	if err := (Config{}).withDefaults().validate(); err != nil {
		t.Errorf("the zero Config: %v", err)
	}
}

func TestIDsAreUniqueAcrossProducers(t *testing.T) {
	a, b := newIDs(), newIDs()
	seen := map[string]bool{}
	for range 1000 {
		for _, id := range []string{a.next(), b.next()} {
			if seen[id] || len(id) > 255 {
				t.Fatalf("id %q", id)
			}
			seen[id] = true
		}
	}
}

func FuzzCheckRefusesOrTheLibraryCanSendIt(f *testing.F) {
	f.Add("x", "k", "id", "h", "v", "60000", uint8(2))
	f.Add(strings.Repeat("x", 256), "k", "id", "", "", "-1", uint8(3))
	f.Fuzz(func(t *testing.T, exchange, key, id, header, value, expiration string, mode uint8) {
		m := Message{exchange, key, amqp.Publishing{MessageId: id, Headers: amqp.Table{header: value}, Expiration: expiration, DeliveryMode: mode}}
		_, err := check(&m, 1000)
		ok := len(exchange) < 256 && len(key) < 256 && len(id) < 256 && mode <= 2
		if err == nil && !ok {
			t.Errorf("taken: %+v", m)
		}
		var field *FieldError
		if err != nil && (!errors.As(err, &field) || field.Fix == "" || len(err.Error()) > 1000) {
			t.Errorf("refused without a field and a fix, or at length: %v", err)
		}
	})
}

func returnOf(r *Receipt) *amqp.Return {
	m := r.msg.Publishing
	return &amqp.Return{
		Exchange: r.msg.Exchange, RoutingKey: r.msg.Key, MessageId: m.MessageId, Headers: m.Headers, Body: m.Body, Type: m.Type,
		DeliveryMode: m.DeliveryMode,
	}
}

func TestReturnIsMatchedByAllThatTheBrokerSendsBack(t *testing.T) {
	at := time.Now()
	r := newReceipt(t.Context(), 3)
	r.msg.Key = "k"
	r.msg.Publishing.MessageId = "same"
	r.msg.Publishing.Headers = amqp.Table{"n": 7, "at": at, "l": []any{1, at, amqp.Table{"x": []byte("b")}}}

	ret := returnOf(r)
	ret.Headers = amqp.Table{"n": int32(7), "at": at.Truncate(time.Second).UTC(), "l": []any{int32(1), at.Truncate(time.Second), amqp.Table{"x": []byte("b")}}}
	if !mayBeReturnOf(ret, r) || !isReturnOf(ret, r) {
		t.Error("the same message, as it comes over the wire, is not recognised")
	}
	ret.Headers["x-routing-node"] = "rabbit@a"   // RabbitMQ can be configured to add headers
	r.msg.Publishing.Headers["BCC"] = []any{"q"} // and takes this one away
	if !isReturnOf(ret, r) {
		t.Error("what the broker changes is taken for a difference")
	}
	for name, change := range map[string]func(*amqp.Return){
		"id":      func(r *amqp.Return) { r.MessageId = "other" },
		"key":     func(r *amqp.Return) { r.RoutingKey = "other" },
		"body":    func(r *amqp.Return) { r.Body = []byte("other") },
		"headers": func(r *amqp.Return) { r.Headers = amqp.Table{"n": int32(8)} },
		"type":    func(r *amqp.Return) { r.Type = "other" },
	} {
		other := returnOf(r)
		change(other)
		if mayBeReturnOf(other, r) && isReturnOf(other, r) {
			t.Errorf("another message's return is taken for it: %s", name)
		}
	}
}
