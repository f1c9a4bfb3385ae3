package publishing

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

func TestReturnsOfMessagesWithTheSameIDAreTold(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	ch := kit.RawChannel(t)
	exchange := kit.Unique("headers")
	if err := ch.ExchangeDeclare(exchange, "headers", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kit.RawChannel(t).ExchangeDelete(exchange, false, false) })
	if err := ch.QueueBind(queue, "", exchange, false, amqp.Table{"x-match": "all", "to": int32(1)}); err != nil {
		t.Fatal(err)
	}
	msgs := make([]producer.Message, 200)
	for i := range msgs {
		msgs[i] = producer.Message{Exchange: exchange, Publishing: amqp.Publishing{MessageId: "same", Headers: amqp.Table{"to": i % 2}}}
	}
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{})
	for i, err := range p.PublishAll(kit.Within(t, 10*time.Second), msgs) {
		var returned *producer.ReturnedError
		if routed := i%2 == 1; routed != (err == nil) || !routed && !errors.As(err, &returned) {
			t.Fatalf("message %d, routed %v: %v", i, routed, err)
		}
	}
}

// RabbitMQ takes BCC away before it returns a message: it comes back other than it was sent.
func TestReturnOfAMessageThatTheBrokerChangedIsTold(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{})
	ctx := kit.Within(t, 10*time.Second)
	hidden := func(headers amqp.Table) amqp.Publishing {
		return amqp.Publishing{MessageId: "mine", Headers: headers}
	}
	var returned *producer.ReturnedError
	if err := p.Publish(ctx, "", "nobody", hidden(amqp.Table{"BCC": []any{"nobody either"}})); !errors.As(err, &returned) {
		t.Errorf("Publish = %v, want *ReturnedError", err)
	}
	if err := p.Publish(ctx, "", queue, hidden(amqp.Table{"BCC": []any{"nobody either"}})); err != nil {
		t.Errorf("Publish to a queue = %v", err)
	}
}

func TestExchangeWithoutPermissionFailsOnlyItsOwnMessages(t *testing.T) {
	b := kit.NeedsControl(t)
	ctx := kit.Within(t, 60*time.Second)
	queue := kit.QuorumQueue(t, nil)
	exchange := kit.Unique(strings.Repeat("x", 230)) // too long for RabbitMQ to name it in full
	ch := kit.RawChannel(t)
	if err := ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kit.RawChannel(t).ExchangeDelete(exchange, false, false) })
	user := kit.Unique("writer")
	for _, args := range [][]string{{"add_user", user, "secret"}, {"set_permissions", user, "^$", "^amq.default$", "^$"}} {
		if out, err := b.Ctl(ctx, args...); err != nil {
			t.Fatal(err, out)
		}
	}
	t.Cleanup(func() { _, _ = b.Ctl(context.Background(), "delete_user", user) })
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{strings.Replace(b.URL(), "guest:guest", user+":secret", 1)}})
	p := kit.NewProducer(t, conn, producer.Config{})
	var msgs []producer.Message
	for i := range 20 {
		m := producer.Message{Key: queue}
		if i == 10 {
			m = producer.Message{Exchange: exchange}
		}
		msgs = append(msgs, m)
	}
	for i, err := range p.PublishAll(ctx, msgs) {
		if i == 10 && !errors.Is(err, producer.ErrNotPublished) || i != 10 && err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

func TestUnconfirmedMessagesAreSentAgainUnderTheSameIDAfterAConnectionLoss(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	proxy, conn := kit.Through(t, amqpkit.Config{})
	p := kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, 10*time.Second)
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	proxy.Pause(amqptest.FromBroker)
	r, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{Body: []byte("again")})
	if err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool { return kit.Ready(t, queue) == 2 })
	proxy.Cut()
	proxy.Clear()
	if err := r.Wait(ctx); err != nil {
		t.Fatalf("Wait = %v, want nil after the second attempt", err)
	}
	got := kit.Take(t, queue, 3)
	if got[1].MessageId != got[2].MessageId || got[1].MessageId != r.MessageID() || string(got[2].Body) != "again" {
		t.Errorf("the second copy has the id %q, the first %q", got[2].MessageId, got[1].MessageId)
	}
}

// After an attempt of unknown outcome, what comes later cannot make the message safe.
func TestAfterAnUnknownAttemptEveryFailureIsUnconfirmed(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	proxy, conn := kit.Through(t, amqpkit.Config{})
	ctx := kit.Within(t, 20*time.Second)

	unknownThen := func(later func(cancel context.CancelFunc)) error {
		p := kit.NewProducer(t, conn, producer.Config{})
		if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		before := kit.Ready(t, queue)
		proxy.Pause(amqptest.FromBroker)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		r, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		kit.WaitFor(t, func() bool { return kit.Ready(t, queue) == before+1 })
		later(cancel)
		<-r.Done()
		return r.Wait(ctx)
	}

	err := unknownThen(func(context.CancelFunc) { // returned by the second attempt
		if _, err := kit.RawChannel(t).QueueDelete(queue, false, false, false); err != nil {
			t.Fatal(err)
		}
		proxy.Cut()
		proxy.Clear()
	})
	var returned *producer.ReturnedError
	if !errors.Is(err, producer.ErrUnconfirmed) || errors.As(err, &returned) || !strings.Contains(err.Error(), "NO_ROUTE") {
		t.Errorf("returned later: %v, want ErrUnconfirmed that tells of the return", err)
	}

	queue = kit.QuorumQueue(t, nil)
	err = unknownThen(func(cancel context.CancelFunc) { // ctx ends before the second attempt
		proxy.RefuseConnections(true)
		proxy.Cut()
		kit.WaitFor(t, func() bool { return conn.Err() != nil })
		cancel()
	})
	if !errors.Is(err, producer.ErrUnconfirmed) || errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, context.Canceled) {
		t.Errorf("ctx ended later: %v, want ErrUnconfirmed wrapping context.Canceled", err)
	}
}

func TestNothingIsLostAndOrderIsKeptWhileConnectionsAreCut(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	proxy, conn := kit.Through(t, amqpkit.Config{})
	p := kit.NewProducer(t, conn, producer.Config{})
	ctx := kit.Within(t, 60*time.Second)

	const n = 5000
	receipts := make([]*producer.Receipt, n)
	for i := range n {
		if i%500 == 250 {
			proxy.Cut()
		}
		r, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{Body: []byte(strconv.Itoa(i))})
		if err != nil {
			t.Fatal(err)
		}
		receipts[i] = r
	}
	for i, r := range receipts {
		if err := r.Wait(ctx); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	seen := map[string]bool{}
	next := 0
	for _, d := range kit.Take(t, queue, kit.Ready(t, queue)) {
		if seen[d.MessageId] {
			continue
		}
		seen[d.MessageId] = true
		if string(d.Body) != strconv.Itoa(next) {
			t.Fatalf("message %s came first where %d was to come", d.Body, next)
		}
		next++
	}
	if next != n {
		t.Errorf("%d of %d confirmed messages are in the queue", next, n)
	}
}

func TestPublishAllGivesOneResultPerMessageInOrder(t *testing.T) {
	queue := kit.QuorumQueue(t, nil)
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{MaxInFlight: 10})
	msgs := make([]producer.Message, 300)
	for i := range msgs {
		msgs[i] = producer.Message{Key: queue, Publishing: amqp.Publishing{Body: fmt.Append(nil, i)}}
	}
	msgs[7].Key = "nobody"
	msgs[8].Publishing.Expiration = "soon"
	var returned *producer.ReturnedError
	for i, err := range p.PublishAll(kit.Within(t, 20*time.Second), msgs) {
		switch {
		case i == 7 && !errors.As(err, &returned), i == 8 && !errors.Is(err, producer.ErrNotPublished), i != 7 && i != 8 && err != nil:
			t.Errorf("message %d: %v", i, err)
		}
	}
	for i, d := range kit.Take(t, queue, 298) {
		want := i
		if i >= 7 {
			want = i + 2
		}
		if string(d.Body) != strconv.Itoa(want) {
			t.Fatalf("message %d in the queue is %s, want %d", i, d.Body, want)
		}
	}
}
