package publishing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/producer"
)

// restricted returns the URL of a new user of the broker who may write where a regular expression allows it. Each grant
// is a further Erlang expression about the user U. rabbitmqctl would take a second for each.
func restricted(t *testing.T, b *rabbit.Broker, write string, grants ...string) (url string) {
	t.Helper()
	user := kit.Unique("writer")
	expr := fmt.Sprintf(`U = <<"%s">>, ok = rabbit_auth_backend_internal:add_user(U, <<"secret">>, <<"test">>), `+
		`rabbit_auth_backend_internal:set_permissions(U, <<"/">>, <<"">>, <<"%s">>, <<"">>, <<"test">>)`, user, write)
	for _, grant := range grants {
		expr += ", " + grant
	}
	if out, err := b.Eval(kit.Within(t, 30*time.Second), expr+`, "ok"`); err != nil {
		t.Fatal(err, out)
	}
	return strings.Replace(b.URL(), "guest:guest", user+":secret", 1)
}

// limits is a grant of restricted.
func limits(name string, most int) string {
	return fmt.Sprintf(`ok = rabbit_auth_backend_internal:set_user_limits(U, #{<<"%s">> => %d}, <<"test">>)`, name, most)
}

// bound declares an exchange that routes everything to the queue.
func bound(t *testing.T, exchange, kind, queue string) {
	t.Helper()
	ch := kit.RawChannel(t)
	if err := ch.ExchangeDeclare(exchange, kind, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kit.RawChannel(t).ExchangeDelete(exchange, false, false) })
	if err := ch.QueueBind(queue, "#", exchange, false, nil); err != nil {
		t.Fatal(err)
	}
}

// Of 200 messages in flight and one that RabbitMQ refuses, the 200 are routed and confirmed.
func TestS68RefusedMessageIsFoundAmong200(t *testing.T) {
	b := kit.NeedsControl(t)
	queue := kit.QuorumQueue(t, nil)
	// RabbitMQ cuts the text off after 255 characters, with the names in it.
	good, topic, long := kit.Unique("good"), kit.Unique("topic"), kit.Unique("it's "+strings.Repeat("x", 210))
	for _, name := range []string{good, long} {
		bound(t, name, "fanout", queue)
	}
	bound(t, topic, "topic", queue)
	internal := kit.Unique("internal")
	if err := kit.RawChannel(t).ExchangeDeclare(internal, "fanout", true, false, true, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kit.RawChannel(t).ExchangeDelete(internal, false, false) })
	url := restricted(t, b, "^(good|topic|internal)-.*$",
		fmt.Sprintf(`rabbit_auth_backend_internal:set_topic_permissions(U, <<"/">>, <<"%s">>, <<"^public">>, <<"">>, <<"test">>)`, topic))
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{url}})
	copied := amqp.Publishing{Headers: amqp.Table{"CC": []any{"public.copy", "secret.copy"}}}

	for name, c := range map[string]struct {
		refused producer.Message
		others  producer.Message
	}{
		"default exchange": {producer.Message{Key: queue}, producer.Message{Exchange: good}},
		"long name":        {producer.Message{Exchange: long}, producer.Message{Exchange: good}},
		"missing exchange": {producer.Message{Exchange: kit.Unique("good")}, producer.Message{Exchange: good}},
		"internal":         {producer.Message{Exchange: internal}, producer.Message{Exchange: good}},
		"topic":            {producer.Message{Exchange: topic, Key: "secret"}, producer.Message{Exchange: topic, Key: "public"}},
		"topic of a copy":  {producer.Message{Exchange: topic, Key: "public", Publishing: copied}, producer.Message{Exchange: topic, Key: "public"}},
		"quoted topic":     {producer.Message{Exchange: topic, Key: "' in exchange '" + good + "' in vhost '"}, producer.Message{Exchange: topic, Key: "public"}},
		"user id":          {producer.Message{Exchange: good, Publishing: amqp.Publishing{UserId: "o'ther"}}, producer.Message{Exchange: good}},
	} {
		p := kit.NewProducer(t, conn, producer.Config{})
		ctx := kit.Within(t, 20*time.Second)
		if err := p.Publish(ctx, c.others.Exchange, c.others.Key, amqp.Publishing{}); err != nil {
			t.Fatal(name, err)
		}
		before := kit.Purged(t, queue)
		msgs := make([]producer.Message, 201)
		for i := range msgs {
			msgs[i] = c.others
			msgs[i].Publishing.MessageId = fmt.Sprint(i)
		}
		msgs[100] = c.refused
		for i, err := range p.PublishAll(ctx, msgs) {
			switch code := kit.ReplyCode(err); {
			case i != 100 && err != nil:
				t.Fatalf("%s: message %d of those allowed: %v", name, i, err)
			case i == 100 && (!errors.Is(err, producer.ErrNotPublished) || code != amqp.AccessRefused && code != amqp.NotFound && code != amqp.PreconditionFailed):
				t.Errorf("%s: %v, want ErrNotPublished for the refusal", name, err)
			}
		}
		if stored := kit.Purged(t, queue); before != 1 || stored < 200 {
			t.Errorf("%s: %d and %d messages are stored, want 1 and 200", name, before, stored)
		}
	}
}

// Some of several messages may have been stored before the permission was withdrawn, or the exchange deleted.
func TestS68SeveralMessagesThatTheRefusalMayMeanAreUnconfirmed(t *testing.T) {
	b := kit.NeedsControl(t)
	queue := kit.QuorumQueue(t, nil)
	good := kit.Unique("good")
	bound(t, good, "fanout", queue)
	url := restricted(t, b, "^good-.*$")
	for name, noResend := range map[string]bool{"sent again": false, "at most once": true} {
		p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{URLs: []string{url}}), producer.Config{NoResend: noResend})
		ctx := kit.Within(t, 20*time.Second)
		if err := p.Publish(ctx, good, "", amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		msgs := make([]producer.Message, 40)
		for i := range msgs {
			msgs[i] = producer.Message{Exchange: good}
			if i == 10 || i == 20 {
				msgs[i] = producer.Message{Key: queue}
			}
		}
		for i, err := range p.PublishAll(ctx, msgs) {
			refused := i == 10 || i == 20
			switch {
			case refused && (!errors.Is(err, producer.ErrUnconfirmed) || kit.ReplyCode(err) != amqp.AccessRefused):
				t.Errorf("%s: message %d: %v, want ErrUnconfirmed for the 403", name, i, err)
			case !refused && err != nil && (!noResend || !errors.Is(err, producer.ErrUnconfirmed)):
				t.Errorf("%s: message %d: %v", name, i, err)
			}
		}
		if err := p.Publish(ctx, "", queue, amqp.Publishing{}); !errors.Is(err, producer.ErrNotPublished) {
			t.Errorf("%s: a single message: %v, want ErrNotPublished", name, err)
		}
	}
}

// RabbitMQ cannot write some long names into its error, and closes the whole connection (541).
func TestS68ExchangeThatRabbitMQCannotNameCostsOnlyItsOwnMessages(t *testing.T) {
	b := kit.NeedsControl(t)
	queue := kit.QuorumQueue(t, nil)
	good := kit.Unique("good")
	bound(t, good, "fanout", queue)
	forbidden := kit.Unique(strings.Repeat("é", 110))
	bound(t, forbidden, "fanout", queue)
	url := restricted(t, b, "^good-.*$")
	for name, refused := range map[string]producer.Message{
		"missing":   {Exchange: kit.Unique(strings.Repeat("é", 110))},
		"forbidden": {Exchange: forbidden},
	} {
		p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{URLs: []string{url}}), producer.Config{})
		ctx := kit.Within(t, 20*time.Second)
		msgs := make([]producer.Message, 50)
		for i := range msgs {
			msgs[i] = producer.Message{Exchange: good}
		}
		msgs[25] = refused
		for i, err := range p.PublishAll(ctx, msgs) {
			if i != 25 && err != nil || i == 25 && !errors.Is(err, producer.ErrNotPublished) && !errors.Is(err, producer.ErrUnconfirmed) {
				t.Errorf("%s: message %d: %v", name, i, err)
			}
		}
	}
}

// RabbitMQ closes a channel with each answer about a missing exchange. Many messages share an answer, and it
// expires.
func TestS85MissingExchangeHoldsUpNobody(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	proxy, conn := kit.Through(t, amqpkit.Config{})
	var asked atomic.Int64
	proxy.Observe(func(e amqptest.Event) {
		if e.Kind == amqptest.ChannelClosed && e.Code == amqp.NotFound {
			asked.Add(1)
		}
	})
	p := kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, 20*time.Second)
	missing := kit.Unique("missing")
	msgs := make([]producer.Message, 2000)
	for i := range msgs {
		msgs[i].Key = queue
		if i%2 == 1 {
			msgs[i].Exchange = missing
		}
	}
	for i, err := range p.PublishAll(ctx, msgs) {
		if i%2 == 0 && err != nil || i%2 == 1 && (!errors.Is(err, producer.ErrNotPublished) || kit.ReplyCode(err) != amqp.NotFound || !strings.Contains(err.Error(), "Setup")) {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	stop, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	for stop.Err() == nil { // a program that does not give up
		_ = p.Publish(stop, missing, "", amqp.Publishing{})
	}
	if n := asked.Load(); n < 1 || n > 20 {
		t.Errorf("the broker was asked %d times for the missing exchange", n)
	}

	ch := kit.RawChannel(t)
	if err := ch.ExchangeDeclare(missing, "fanout", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ch.ExchangeDelete(missing, false, false) }()
	start := time.Now()
	for {
		err := p.Publish(ctx, missing, "", amqp.Publishing{})
		var returned *producer.ReturnedError
		if errors.As(err, &returned) {
			break
		}
		if kit.ReplyCode(err) != amqp.NotFound {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > time.Second+kit.Soon {
		t.Errorf("the exchange was seen %v after it was declared", took)
	}
}

// A user who may have one channel loses the connection with the second one (530).
func TestS85ProducerThatMayNotAskForAnExchangePublishesAllTheSame(t *testing.T) {
	b := kit.NeedsControl(t)
	queue := kit.QuorumQueue(t, nil)
	good := kit.Unique("good")
	bound(t, good, "fanout", queue)
	url := restricted(t, b, ".*", limits("max-channels", 1))
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{URLs: []string{url}}), producer.Config{})
	ctx := kit.Within(t, 20*time.Second)
	if err := p.Publish(ctx, good, "", amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(ctx, kit.Unique("missing"), "", amqp.Publishing{}); !errors.Is(err, producer.ErrNotPublished) || kit.ReplyCode(err) != amqp.NotFound {
		t.Errorf("a missing exchange: %v", err)
	}
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
