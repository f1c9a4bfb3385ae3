package producer

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
)

func TestConfigReportsEveryWrongFieldAtOnce(t *testing.T) {
	_, err := New(nil, Config{})
	var field *amqperr.FieldError
	if !errors.As(err, &field) || field.Field != "conn" {
		t.Errorf("New(nil) = %v", err)
	}
	err = Config{MaxInFlight: 65536, MaxInFlightBytes: -1, MaxMessageSize: -1, ConfirmTimeout: -1}.validate()
	for _, name := range []string{"MaxInFlight", "MaxInFlightBytes", "MaxMessageSize", "ConfirmTimeout"} {
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
		var field *amqperr.FieldError
		if err != nil && (!errors.As(err, &field) || field.Fix == "" || len(err.Error()) > 1000) {
			t.Errorf("refused without a field and a fix, or at length: %v", err)
		}
	})
}

func returnOf(r *Receipt) *amqp.Return {
	m := r.msg.Publishing
	return &amqp.Return{
		Exchange: r.msg.Exchange, RoutingKey: r.msg.Key, MessageId: m.MessageId, Headers: m.Headers, Body: m.Body, Type: m.Type,
		DeliveryMode: m.DeliveryMode, Priority: m.Priority, CorrelationId: m.CorrelationId, ReplyTo: m.ReplyTo, AppId: m.AppId,
		ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, Expiration: m.Expiration,
	}
}

func TestReturnIsMatchedByWhatTheBrokerSendsBack(t *testing.T) {
	r := newReceipt(t.Context(), 3)
	r.msg.Key = "k"
	r.msg.Publishing.MessageId = "same"
	if !isReturnOf(returnOf(r), r) {
		t.Error("the return of the message is not recognised")
	}
	for name, change := range map[string]func(*amqp.Return){
		"id":       func(r *amqp.Return) { r.MessageId = "other" },
		"exchange": func(r *amqp.Return) { r.Exchange = "other" },
		"key":      func(r *amqp.Return) { r.RoutingKey = "other" },
		"body":     func(r *amqp.Return) { r.Body = []byte("other") },
		"type":     func(r *amqp.Return) { r.Type = "other" },
		"priority": func(r *amqp.Return) { r.Priority = 9 },
	} {
		other := returnOf(r)
		change(other)
		if isReturnOf(other, r) {
			t.Errorf("another message's return is taken for it: %s", name)
		}
	}
}

func TestTwinsHaveEverythingInCommonThatAReturnIsMatchedBy(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 10_000)
	of := func(id, exchange, key string, body []byte) uint64 {
		return twin(&Message{exchange, key, amqp.Publishing{MessageId: id, Body: body}})
	}
	if of("i", "e", "k", long) != of("i", "e", "k", bytes.Clone(long)) {
		t.Error("equal messages are not twins")
	}
	seen := map[uint64]bool{}
	for _, hash := range []uint64{
		of("i", "e", "k", long), of("", "e", "k", long), of("i", "", "k", long), of("i", "e", "", long), of("ie", "", "k", long), of("i", "", "ek", long),
		of("i", "e", "k", nil), of("i", "e", "k", long[1:]), of("i", "e", "k", append([]byte("y"), long[1:]...)), of("i", "e", "k", append(long[1:], 'y')),
	} {
		if hash == 0 || seen[hash] {
			t.Errorf("%d is the hash of two different messages", hash)
		}
		seen[hash] = true
	}
}
