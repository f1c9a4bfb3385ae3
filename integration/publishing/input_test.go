package publishing

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// An inputBench publishes bad messages beside good ones.
type inputBench struct {
	t       *testing.T
	queue   string
	conn    *amqpkit.Conn
	session *amqp.Connection
	p       *producer.Producer
}

func newInputBench(t *testing.T, cfg producer.Config) *inputBench {
	t.Helper()
	b := &inputBench{t: t, queue: kit.QuorumQueue(t, nil), conn: kit.Connect(t, amqpkit.Config{})}
	b.p = kit.NewProducer(t, b.conn, cfg)
	var err error
	if b.session, err = b.conn.PublishConnection(kit.Within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	return b
}

// refused checks that a message fails alone, before the wire: with an error that names the field and what to do,
// and does not repeat at length what was wrong.
func (b *inputBench) refused(field, exchange, key string, msg amqp.Publishing) {
	b.t.Helper()
	ctx := kit.Within(b.t, 20*time.Second)
	neighbour, err := b.p.PublishAsync(ctx, "", b.queue, amqp.Publishing{})
	if err != nil {
		b.t.Fatal(err)
	}
	err = b.p.Publish(ctx, exchange, key, msg)
	var f *amqperr.FieldError
	switch {
	case !errors.Is(err, producer.ErrNotPublished) || producer.MaybeDelivered(err):
		b.t.Errorf("%s: %v, want ErrNotPublished", field, err)
	case !errors.As(err, &f) || !strings.HasPrefix(f.Field, field) || f.Fix == "":
		b.t.Errorf("%v does not name the field %s and what to do", err, field)
	case len(err.Error()) > 1000:
		b.t.Errorf("%s: an error of %d bytes", field, len(err.Error()))
	}
	if err := neighbour.Wait(ctx); err != nil {
		b.t.Errorf("the neighbour of a bad %s: %v", field, err)
	}
	b.sameSession()
}

func (b *inputBench) sameSession() {
	b.t.Helper()
	if now, err := b.conn.PublishConnection(kit.Within(b.t, 10*time.Second)); now != b.session || err != nil {
		b.t.Fatalf("the session was lost over a bad message (%v)", err)
	}
}

// taken checks that a message is stored as it was sent, and returns it.
func (b *inputBench) taken(msg amqp.Publishing) amqp.Delivery {
	b.t.Helper()
	if err := b.p.Publish(kit.Within(b.t, 20*time.Second), "", b.queue, msg); err != nil {
		b.t.Fatal(err)
	}
	b.sameSession()
	got := kit.Drained(b.t, kit.RawChannel(b.t), b.queue)
	if len(got) == 0 {
		b.t.Fatal("the queue is empty after a confirm")
	}
	return got[len(got)-1]
}

func TestS52TooLargeABodyIsRefusedAndTheBrokersOwnLimitIsLearnt(t *testing.T) {
	newInputBench(t, producer.Config{}).refused("Body", "", "k", amqp.Publishing{Body: make([]byte, 17<<20)})

	// This producer believes that the broker takes more than it does.
	b := newInputBench(t, producer.Config{MaxMessageSize: 32 << 20})
	ctx := kit.Within(t, 60*time.Second)
	large := amqp.Publishing{Body: make([]byte, 17<<20)}
	msgs := []producer.Message{{Key: b.queue}, {Key: b.queue, Publishing: large}, {Key: b.queue}}
	for i, err := range b.p.PublishAll(ctx, msgs) {
		if i == 1 && (!errors.Is(err, producer.ErrNotPublished) || kit.ReplyCode(err) != amqp.PreconditionFailed) || i != 1 && err != nil {
			t.Errorf("message %d: %v, want ErrNotPublished for the 406 of the large one, and nil for its neighbours", i, err)
		}
	}
	b.refused("Body", "", b.queue, large)
	if d := b.taken(amqp.Publishing{Body: make([]byte, 16<<20)}); len(d.Body) != 16<<20 {
		t.Errorf("of the largest message %d bytes came", len(d.Body))
	}
}

func TestS53ShortStringOfMoreThan255BytesIsRefused(t *testing.T) {
	b := newInputBench(t, producer.Config{})
	long := strings.Repeat("x", 256)
	b.refused("Exchange", long, "k", amqp.Publishing{})
	b.refused("Key", "", long, amqp.Publishing{})
	for field, msg := range map[string]amqp.Publishing{
		"MessageId":       {MessageId: long},
		"CorrelationId":   {CorrelationId: long},
		"ReplyTo":         {ReplyTo: long},
		"Type":            {Type: long},
		"AppId":           {AppId: long},
		"UserId":          {UserId: long},
		"ContentType":     {ContentType: long},
		"ContentEncoding": {ContentEncoding: long},
		`Headers["`:       {Headers: amqp.Table{long: 1}},
	} {
		b.refused(field, "", b.queue, msg)
	}
	var field *amqperr.FieldError
	err := topology.Topology{Queues: []topology.Queue{{Name: long}}}.Declare(kit.Within(t, 10*time.Second), b.session)
	if !errors.As(err, &field) || len(err.Error()) > 1000 {
		t.Errorf("Declare = %v, want a FieldError that shows a part of the name", err)
	}
	b.sameSession()
	b.taken(amqp.Publishing{MessageId: long[1:], Type: long[1:], Headers: amqp.Table{long[1:]: 1}})
}

// RabbitMQ closes the connection over names that are not UTF-8. Routing keys and ids are bytes to it, but py-amqp loses
// its connection over them (S90).
func TestS59NamesThatAreNoUTF8AreRefused(t *testing.T) {
	b := newInputBench(t, producer.Config{})
	const bad = "caf\xe9"
	b.refused("Exchange", bad, "k", amqp.Publishing{})
	b.refused("Key", "", bad, amqp.Publishing{})
	for field, msg := range map[string]amqp.Publishing{
		"ReplyTo": {ReplyTo: bad}, "MessageId": {MessageId: bad}, "CorrelationId": {CorrelationId: bad}, "ContentType": {ContentType: bad},
		"ContentEncoding": {ContentEncoding: bad}, "Type": {Type: bad}, "AppId": {AppId: bad}, "UserId": {UserId: bad},
	} {
		b.refused(field, "", b.queue, msg)
	}
	b.refused(`Headers["`, "", b.queue, amqp.Publishing{Headers: amqp.Table{bad: 1}})
	ctx := kit.Within(t, 10*time.Second)
	for _, topo := range []topology.Topology{
		{Queues: []topology.Queue{{Name: bad}}},
		{Exchanges: []topology.Exchange{{Name: bad, Type: topology.Fanout}}},
		{Bindings: []topology.Binding{{Source: bad, Queue: b.queue}}},
		{Bindings: []topology.Binding{{Source: "amq.fanout", Queue: bad}}},
	} {
		var field *amqperr.FieldError
		if err := topo.Declare(ctx, b.session); !errors.As(err, &field) {
			t.Errorf("Declare of %+v = %v, want a FieldError", topo, err)
		}
	}
	b.sameSession()
	var returned *producer.ReturnedError
	if err := b.p.Republish(ctx, "", bad, amqp.Publishing{}); !errors.As(err, &returned) {
		t.Errorf("with such a routing key: %v, want *ReturnedError", err)
	}
	if d := b.taken(amqp.Publishing{Headers: amqp.Table{"h": bad}}); d.Headers["h"] != bad {
		t.Errorf("got the header %q, want it as it was sent", d.Headers["h"])
	}
}

func TestS60PropertiesThatRabbitMQWouldCloseTheChannelForAreRefused(t *testing.T) {
	b := newInputBench(t, producer.Config{})
	for _, ttl := range []string{"-1", "abc", "1.5", " 5", "5 ", "+5", "05", "0x5", "1e3", "315360000001", "18446744073709551616"} {
		b.refused("Expiration", "", b.queue, amqp.Publishing{Expiration: ttl})
	}
	for _, cc := range []any{"key", amqp.Table{}, []any{1}, []any{"key", nil}} {
		b.refused(`Headers["CC"]`, "", b.queue, amqp.Publishing{Headers: amqp.Table{"CC": cc}})
		b.refused(`Headers["BCC"]`, "", b.queue, amqp.Publishing{Headers: amqp.Table{"BCC": cc}})
	}
	b.refused(`Headers["x-stream-filter-value"]`, "", b.queue, amqp.Publishing{Headers: amqp.Table{"x-stream-filter-value": 1}})
	b.refused("DeliveryMode", "", b.queue, amqp.Publishing{DeliveryMode: 3})
	b.refused("ReplyTo", "", b.queue, amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to"})
	b.refused("UserId", "", b.queue, amqp.Publishing{UserId: "somebody else"})
	if d := b.taken(amqp.Publishing{Expiration: "315360000000", UserId: "guest", Headers: amqp.Table{"CC": []any{b.queue}}}); d.UserId != "guest" {
		t.Errorf("got the user id %q", d.UserId)
	}
}

// Whom a login may publish as is the broker's to say.
func TestS60UserIDOfAnotherIsTakenFromAnImpersonator(t *testing.T) {
	b := kit.NeedsControl(t)
	ctx := kit.Within(t, 60*time.Second)
	user := kit.Unique("impersonator")
	for _, args := range [][]string{{"add_user", user, "secret"}, {"set_user_tags", user, "impersonator"}, {"set_permissions", user, ".*", ".*", ".*"}} {
		if out, err := b.Ctl(ctx, args...); err != nil {
			t.Fatal(err, out)
		}
	}
	t.Cleanup(func() { _, _ = b.Ctl(context.Background(), "delete_user", user) })
	queue := kit.QuorumQueue(t, nil)
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{URLs: []string{strings.Replace(b.URL(), "guest:guest", user+":secret", 1)}}), producer.Config{})
	for _, id := range []string{user, "somebody else", ""} {
		if err := p.Publish(ctx, "", queue, amqp.Publishing{UserId: id}); err != nil {
			t.Errorf("as %q: %v", id, err)
		}
	}
	if got := kit.Take(t, queue, 3)[1].UserId; got != "somebody else" {
		t.Errorf("got the user id %q", got)
	}
}
