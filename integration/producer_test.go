package integration

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/producer"
)

func TestPublishedMessageIsRoutedConfirmedPersistentAndHasAnIDAndNoHeader(t *testing.T) {
	queue := quorumQueue(t, nil)
	p := newProducer(t, connect(t, amqpkit.Config{}), producer.Config{})
	ctx := within(t, 10*time.Second)
	for i := range 2 {
		if err := p.Publish(ctx, "", queue, amqp.Publishing{Body: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Publish(ctx, "", queue, amqp.Publishing{MessageId: "mine", DeliveryMode: amqp.Transient}); err != nil {
		t.Fatal(err)
	}
	got := take(t, queue, 3)
	for _, d := range got[:2] {
		if d.DeliveryMode != amqp.Persistent || len(d.MessageId) < 20 || d.Headers != nil {
			t.Errorf("got mode %d, id %q, headers %v", d.DeliveryMode, d.MessageId, d.Headers)
		}
	}
	if got[0].MessageId == got[1].MessageId {
		t.Errorf("two messages have the id %q", got[0].MessageId)
	}
	if got[2].MessageId != "mine" || got[2].DeliveryMode != amqp.Transient {
		t.Errorf("a caller's own id and mode became %q and %d", got[2].MessageId, got[2].DeliveryMode)
	}
}

func TestUnroutableMessageIsReturnedErrorAndTheOthersAreNot(t *testing.T) {
	queue := quorumQueue(t, nil)
	conn := connect(t, amqpkit.Config{})
	p := newProducer(t, conn, producer.Config{})
	ctx := within(t, 60*time.Second)

	const n = 2000
	errs := make([]error, n)
	var wg sync.WaitGroup
	for g := range 20 {
		wg.Go(func() {
			for i := g; i < n; i += 20 {
				key := queue
				if i%3 == 0 {
					key = "nobody"
				}
				errs[i] = p.Publish(ctx, "", key, amqp.Publishing{Body: []byte("same")})
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		var returned *producer.ReturnedError
		switch {
		case i%3 != 0:
			if err != nil {
				t.Fatalf("routable message %d: %v", i, err)
			}
		case !errors.As(err, &returned) || returned.Code != 312 || returned.Text != "NO_ROUTE" || returned.Key != "nobody" || producer.MaybeDelivered(err):
			t.Fatalf("unroutable message %d: %v, want *ReturnedError", i, err)
		}
	}
	if err := newProducer(t, conn, producer.Config{AllowUnroutable: true}).Publish(ctx, "", "nobody", amqp.Publishing{}); err != nil {
		t.Errorf("with AllowUnroutable: %v", err)
	}
}

func TestReturnsOfMessagesWithTheSameIDAreTold(t *testing.T) {
	queue := quorumQueue(t, nil)
	ch := rawChannel(t)
	exchange := unique("headers")
	if err := ch.ExchangeDeclare(exchange, "headers", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rawChannel(t).ExchangeDelete(exchange, false, false) })
	if err := ch.QueueBind(queue, "", exchange, false, amqp.Table{"x-match": "all", "to": int32(1)}); err != nil {
		t.Fatal(err)
	}
	msgs := make([]producer.Message, 200)
	for i := range msgs {
		msgs[i] = producer.Message{Exchange: exchange, Publishing: amqp.Publishing{MessageId: "same", Headers: amqp.Table{"to": i % 2}}}
	}
	p := newProducer(t, connect(t, amqpkit.Config{}), producer.Config{})
	for i, err := range p.PublishAll(within(t, 10*time.Second), msgs) {
		var returned *producer.ReturnedError
		if routed := i%2 == 1; routed != (err == nil) || !routed && !errors.As(err, &returned) {
			t.Fatalf("message %d, routed %v: %v", i, routed, err)
		}
	}
}

// RabbitMQ takes BCC away before it returns a message: it comes back other than it was sent.
func TestReturnOfAMessageThatTheBrokerChangedIsTold(t *testing.T) {
	queue := quorumQueue(t, nil)
	p := newProducer(t, connect(t, amqpkit.Config{}), producer.Config{})
	ctx := within(t, 10*time.Second)
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
	b := needsControl(t)
	ctx := within(t, 60*time.Second)
	queue := quorumQueue(t, nil)
	exchange := unique(strings.Repeat("x", 230)) // too long for RabbitMQ to name it in full
	ch := rawChannel(t)
	if err := ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rawChannel(t).ExchangeDelete(exchange, false, false) })
	user := unique("writer")
	for _, args := range [][]string{{"add_user", user, "secret"}, {"set_permissions", user, "^$", "^amq.default$", "^$"}} {
		if out, err := b.Ctl(ctx, args...); err != nil {
			t.Fatal(err, out)
		}
	}
	t.Cleanup(func() { _, _ = b.Ctl(context.Background(), "delete_user", user) })
	conn := connect(t, amqpkit.Config{URLs: []string{strings.Replace(b.URL(), "guest:guest", user+":secret", 1)}})
	p := newProducer(t, conn, producer.Config{})
	var msgs []producer.Message
	for i := range 20 {
		m := producer.Message{Key: queue}
		if i == 10 {
			m = producer.Message{Exchange: exchange}
		}
		msgs = append(msgs, m)
	}
	for i, err := range p.PublishAll(ctx, msgs) {
		if i == 10 && !errors.Is(err, producer.ErrUnconfirmed) || i != 10 && err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

func TestRefusedMessageIsErrNacked(t *testing.T) {
	queue := quorumQueue(t, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	p := newProducer(t, connect(t, amqpkit.Config{}), producer.Config{})
	ctx := within(t, 20*time.Second)
	nacked := 0
	for range 20 { // the limit is a soft one
		err := p.Publish(ctx, "", queue, amqp.Publishing{})
		if err == nil {
			continue
		}
		if !errors.Is(err, producer.ErrNacked) || producer.MaybeDelivered(err) || !strings.Contains(err.Error(), queue) {
			t.Fatalf("got %v, want ErrNacked that names the key", err)
		}
		nacked++
	}
	if stored := ready(t, queue); nacked == 0 || stored != 20-nacked {
		t.Errorf("%d nacked, %d stored of 20", nacked, stored)
	}
}

func TestBadMessageFailsAloneBeforeTheWire(t *testing.T) {
	queue := quorumQueue(t, nil)
	conn := connect(t, amqpkit.Config{})
	p := newProducer(t, conn, producer.Config{MaxMessageSize: 1000})
	ctx := within(t, 20*time.Second)
	before, err := conn.Publishing(ctx)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 256)
	cyclic := amqp.Table{}
	cyclic["self"] = cyclic
	for field, m := range map[string]producer.Message{
		"Exchange":        {Exchange: unique("no-such")},
		"Key":             {Key: long},
		"MessageId":       {Key: queue, Publishing: amqp.Publishing{MessageId: long}},
		"Body":            {Key: queue, Publishing: amqp.Publishing{Body: make([]byte, 1001)}},
		"Expiration":      {Key: queue, Publishing: amqp.Publishing{Expiration: "-1"}},
		"DeliveryMode":    {Key: queue, Publishing: amqp.Publishing{DeliveryMode: 3}},
		`Headers["nan"]`:  {Key: queue, Publishing: amqp.Publishing{Headers: amqp.Table{"nan": math.NaN()}}},
		`Headers["CC"]`:   {Key: queue, Publishing: amqp.Publishing{Headers: amqp.Table{"CC": "x"}}},
		"ReplyTo":         {Key: queue, Publishing: amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to"}},
		`Headers["n"]`:    {Key: queue, Publishing: amqp.Publishing{Headers: amqp.Table{"n": uint64(1)}}},
		`Headers["self"]`: {Key: queue, Publishing: amqp.Publishing{Headers: cyclic}},
		`Headers["`:       {Key: queue, Publishing: amqp.Publishing{Headers: amqp.Table{long: 1}}},
		`Headers["big"]`:  {Key: queue, Publishing: amqp.Publishing{Headers: amqp.Table{"big": strings.Repeat("x", 140_000)}}},
	} {
		neighbour, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Publish(ctx, m.Exchange, m.Key, m.Publishing)
		if !errors.Is(err, producer.ErrNotPublished) || producer.MaybeDelivered(err) {
			t.Errorf("%s: %v, want ErrNotPublished", field, err)
		}
		var f *producer.FieldError
		if field != "Exchange" && (!errors.As(err, &f) || !strings.HasPrefix(f.Field, field) || f.Fix == "") {
			t.Errorf("%v does not name the field %s and the fix", err, field)
		}
		if len(err.Error()) > 1000 {
			t.Errorf("%s: the error echoes the value: %d bytes", field, len(err.Error()))
		}
		if err := neighbour.Wait(ctx); err != nil {
			t.Errorf("the neighbour of a bad %s: %v", field, err)
		}
	}
	if after, err := conn.Publishing(ctx); after != before || err != nil {
		t.Errorf("the session was lost over a bad message (%v)", err)
	}
}

func TestExchangeDeletedMeanwhileFailsOnlyItsOwnMessages(t *testing.T) {
	queue := quorumQueue(t, nil)
	ch := rawChannel(t)
	exchange := unique("vanishing")
	p := newProducer(t, connect(t, amqpkit.Config{}), producer.Config{})
	ctx := within(t, 20*time.Second)
	for round := range 5 {
		if err := ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		if err := ch.QueueBind(queue, "", exchange, false, nil); err != nil {
			t.Fatal(err)
		}
		if err := p.Publish(ctx, exchange, "", amqp.Publishing{}); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := ch.ExchangeDelete(exchange, false, false); err != nil {
			t.Fatal(err)
		}
		var msgs []producer.Message
		for i := range 50 {
			m := producer.Message{Key: queue}
			if i == 25 {
				m = producer.Message{Exchange: exchange}
			}
			msgs = append(msgs, m)
		}
		for i, err := range p.PublishAll(ctx, msgs) {
			if i == 25 && !errors.Is(err, producer.ErrUnconfirmed) && !errors.Is(err, producer.ErrNotPublished) {
				t.Errorf("message to the deleted exchange: %v", err)
			}
			if i != 25 && err != nil {
				t.Errorf("message %d to another: %v", i, err)
			}
		}
		if err := p.Publish(ctx, exchange, "", amqp.Publishing{}); !errors.Is(err, producer.ErrNotPublished) {
			t.Errorf("the next message to it: %v, want ErrNotPublished", err)
		}
	}
}

func TestS17StoredButAckLostIsUnconfirmed(t *testing.T) {
	queue := quorumQueue(t, nil)
	proxy := newProxy(t, broker(t).URL())
	p := newProducer(t, connect(t, amqpkit.Config{URLs: []string{proxy.url}}), producer.Config{Resend: producer.Never})
	ctx := within(t, 10*time.Second)
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	proxy.hold(replies)
	r, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return ready(t, queue) == 2 })
	proxy.cut()
	if err := r.Wait(ctx); !errors.Is(err, producer.ErrUnconfirmed) || errors.Is(err, producer.ErrNacked) || !producer.MaybeDelivered(err) {
		t.Errorf("Wait = %v, want ErrUnconfirmed", err)
	}
	if n := ready(t, queue); n != 2 {
		t.Errorf("the queue holds %d messages, want 2: nothing was sent again", n)
	}
}

func TestUnconfirmedMessagesAreSentAgainUnderTheSameIDAfterAConnectionLoss(t *testing.T) {
	queue := quorumQueue(t, nil)
	proxy := newProxy(t, broker(t).URL())
	p := newProducer(t, connect(t, amqpkit.Config{URLs: []string{proxy.url}}), producer.Config{})
	ctx := within(t, 10*time.Second)
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	proxy.hold(replies)
	r, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{Body: []byte("again")})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return ready(t, queue) == 2 })
	proxy.cut()
	if err := r.Wait(ctx); err != nil {
		t.Fatalf("Wait = %v, want nil after the second attempt", err)
	}
	got := take(t, queue, 3)
	if got[1].MessageId != got[2].MessageId || got[1].MessageId != r.MessageID() || string(got[2].Body) != "again" {
		t.Errorf("the second copy has the id %q, the first %q", got[2].MessageId, got[1].MessageId)
	}
}

// After an attempt of unknown outcome, what comes later cannot make the message safe.
func TestAfterAnUnknownAttemptEveryFailureIsUnconfirmed(t *testing.T) {
	queue := quorumQueue(t, nil)
	proxy := newProxy(t, broker(t).URL())
	conn := connect(t, amqpkit.Config{URLs: []string{proxy.url}})
	ctx := within(t, 20*time.Second)

	unknownThen := func(later func(cancel context.CancelFunc)) error {
		p := newProducer(t, conn, producer.Config{})
		if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		before := ready(t, queue)
		proxy.hold(replies)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		r, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return ready(t, queue) == before+1 })
		later(cancel)
		<-r.Done()
		return r.Wait(ctx)
	}

	err := unknownThen(func(context.CancelFunc) { // returned by the second attempt
		if _, err := rawChannel(t).QueueDelete(queue, false, false, false); err != nil {
			t.Fatal(err)
		}
		proxy.cut()
	})
	var returned *producer.ReturnedError
	if !errors.Is(err, producer.ErrUnconfirmed) || errors.As(err, &returned) || !strings.Contains(err.Error(), "NO_ROUTE") {
		t.Errorf("returned later: %v, want ErrUnconfirmed that tells of the return", err)
	}

	queue = quorumQueue(t, nil)
	err = unknownThen(func(cancel context.CancelFunc) { // ctx ends before the second attempt
		proxy.redirect("127.0.0.1:1") // where nothing listens
		proxy.cut()
		waitFor(t, func() bool { return conn.State() == amqpkit.Connecting })
		cancel()
	})
	if !errors.Is(err, producer.ErrUnconfirmed) || errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, context.Canceled) {
		t.Errorf("ctx ended later: %v, want ErrUnconfirmed wrapping context.Canceled", err)
	}
}

func TestNothingIsLostAndOrderIsKeptWhileConnectionsAreCut(t *testing.T) {
	queue := quorumQueue(t, nil)
	proxy := newProxy(t, broker(t).URL())
	p := newProducer(t, connect(t, amqpkit.Config{URLs: []string{proxy.url}}), producer.Config{})
	ctx := within(t, 60*time.Second)

	const n = 5000
	receipts := make([]*producer.Receipt, n)
	for i := range n {
		if i%500 == 250 {
			proxy.cut()
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
	for _, d := range take(t, queue, ready(t, queue)) {
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
	queue := quorumQueue(t, nil)
	p := newProducer(t, connect(t, amqpkit.Config{}), producer.Config{MaxInFlight: 10})
	msgs := make([]producer.Message, 300)
	for i := range msgs {
		msgs[i] = producer.Message{Key: queue, Publishing: amqp.Publishing{Body: fmt.Append(nil, i)}}
	}
	msgs[7].Key = "nobody"
	msgs[8].Publishing.Expiration = "soon"
	var returned *producer.ReturnedError
	for i, err := range p.PublishAll(within(t, 20*time.Second), msgs) {
		switch {
		case i == 7 && !errors.As(err, &returned), i == 8 && !errors.Is(err, producer.ErrNotPublished), i != 7 && i != 8 && err != nil:
			t.Errorf("message %d: %v", i, err)
		}
	}
	for i, d := range take(t, queue, 298) {
		want := i
		if i >= 7 {
			want = i + 2
		}
		if string(d.Body) != strconv.Itoa(want) {
			t.Fatalf("message %d in the queue is %s, want %d", i, d.Body, want)
		}
	}
}
