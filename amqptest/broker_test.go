package amqptest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/producer"
)

// dial connects with amqp091-go and opens a channel.
func dial(tb testing.TB, b *amqptest.Broker) (*amqp.Connection, *amqp.Channel) {
	tb.Helper()
	conn, err := amqp.Dial(b.URL())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		tb.Fatal(err)
	}
	return conn, ch
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestBrokerReportsItsState(t *testing.T) {
	b := amqptest.Start(t, amqptest.Config{Users: map[string]string{"app": "p@ss/word"}, VHosts: []string{"my/host", "/"}})
	if want := "amqp://app:p%40ss%2Fword@" + b.Addr() + "/my%2Fhost"; b.URL() != want {
		t.Errorf("URL = %s, want %s", b.URL(), want)
	}
	_, ch := dial(t, b)
	_, err := ch.QueueDeclare("q", true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-message-ttl": 60000})
	must(t, err)
	must(t, ch.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{
		Body: []byte("hello"), MessageId: "id", DeliveryMode: amqp.Persistent, ContentType: "text/plain", Timestamp: time.Unix(7, 0),
		Headers: amqp.Table{"n": int32(1), "t": amqp.Table{"a": []any{"b"}}, "d": amqp.Decimal{Scale: 1, Value: 15}},
	}))
	must(t, ch.PublishWithContext(t.Context(), "", "nobody", false, false, amqp.Publishing{Body: []byte("lost")}))
	must(t, ch.Qos(0, 0, false))

	if all := b.Queues(); len(all) != 1 || all[0] != (amqptest.Queue{Name: "q", Type: "quorum", Durable: true, Ready: 1}) {
		t.Errorf("Queues = %+v", all)
	}
	list := b.Messages("q")
	if len(list) != 1 {
		t.Fatalf("Messages = %+v", list)
	}
	m := list[0]
	if string(m.Body) != "hello" || m.Key != "q" || m.MessageID != "id" || m.DeliveryMode != 2 || m.ContentType != "text/plain" ||
		!m.Timestamp.Equal(time.Unix(7, 0)) || m.Redelivered || m.Expires.Before(b.Now()) {
		t.Errorf("%+v", m)
	}
	if m.Headers["n"] != int32(1) || m.Headers["d"] != 1.5 || m.Headers["t"].(map[string]any)["a"].([]any)[0] != "b" {
		t.Errorf("headers %v", m.Headers)
	}
	if p := b.Published(); len(p) != 2 || string(p[1].Body) != "lost" {
		t.Errorf("Published = %+v", p)
	}
	if c := b.Connections(); len(c) != 1 || c[0].User != "app" || c[0].VHost != "my/host" || c[0].Channels != 1 {
		t.Errorf("Connections = %+v", c)
	}
	if _, ok := b.Queue("none"); ok || b.Messages("none") != nil {
		t.Error("a queue is there that is not")
	}
}

func TestPublishedKeepsTheLatestMessages(t *testing.T) {
	for logged, want := range map[int]string{-1: "", 3: "789", 0: "0123456789"} {
		b := amqptest.Start(t, amqptest.Config{PublishedLimit: logged})
		_, ch := dial(t, b)
		for i := range 10 {
			must(t, ch.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Body: []byte{'0' + byte(i)}}))
		}
		must(t, ch.Qos(0, 0, false))
		got := ""
		for _, m := range b.Published() {
			got += string(m.Body)
		}
		if got != want {
			t.Errorf("Logged %d: %q, want %q", logged, got, want)
		}
	}
}

func TestAwaitErrorsDescribePendingWork(t *testing.T) {
	b := amqptest.Start(t)
	_, ch := dial(t, b)
	_, err := ch.QueueDeclare("q", true, false, false, false, nil)
	must(t, err)
	go func() { _ = ch.PublishWithContext(context.Background(), "", "q", false, false, amqp.Publishing{}) }()
	must(t, b.Await(t.Context(), func() bool { return len(b.Messages("q")) == 1 }))
	must(t, b.AwaitIdle(t.Context())) // no consumer

	_, _, err = ch.Get("q", false)
	must(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if err := b.AwaitIdle(ctx); err == nil || !strings.Contains(err.Error(), `enough; queue "q" has 0 ready, 1 unacked, 0 consumers`) {
		t.Errorf("AwaitIdle = %v", err)
	}
}

func TestNewReportsEveryInvalidField(t *testing.T) {
	_, err := amqptest.New(amqptest.Config{
		Users: map[string]string{}, VHosts: []string{}, Heartbeat: time.Millisecond, ChannelMax: 70000, FrameMax: 4096, MaxMessageSize: -1,
		ConsumerTimeout: -1, PublishedLimit: -2,
	})
	for _, field := range []string{"Users", "VHosts", "Heartbeat", "ChannelMax", "FrameMax", "MaxMessageSize", "ConsumerTimeout", "PublishedLimit"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+field+" ") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if _, err := amqptest.New(amqptest.Config{Addr: "nowhere.invalid:1"}); err == nil {
		t.Error("New accepted an address that does not exist")
	}
}

func TestRestartKeepsTheAddress(t *testing.T) {
	b := amqptest.Start(t)
	conn, ch := dial(t, b)
	_, err := ch.QueueDeclare("q", true, false, false, false, nil)
	must(t, err)
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	url := b.URL()
	b.Stop()
	if e := <-closed; e.Code != 320 {
		t.Errorf("closed with %v", e)
	}
	if _, err := amqp.Dial(url); err == nil {
		t.Error("a stopped broker listens")
	}
	must(t, b.Start())
	if _, ok := b.Queue("q"); !ok || b.URL() != url {
		t.Errorf("after a restart at %s: queue %v", b.URL(), ok)
	}
	dial(t, b)
	must(t, b.Close())
	must(t, b.Close())
	if _, err := b.Dial(t.Context(), "", ""); !errors.Is(err, amqptest.ErrClosed) {
		t.Errorf("Dial = %v", err)
	}
}

func TestOutageInSynctestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := amqptest.Start(t, amqptest.Config{InMemory: true})
		conn, err := amqpkit.Open(amqpkit.Config{
			URLs: []string{b.URL()}, Dialer: b.Dial,
			Setup: func(_ context.Context, ac *amqp.Connection) error {
				ch, err := ac.Channel()
				if err != nil {
					return err
				}
				_, err = ch.QueueDeclare("orders", true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
				return errors.Join(err, ch.Close())
			},
		})
		must(t, err)
		p, err := producer.New(conn, producer.Config{})
		must(t, err)
		must(t, p.Publish(t.Context(), "", "orders", amqp.Publishing{Body: []byte("before")}))
		b.Kill()
		sent := make(chan error, 1)
		go func() { sent <- p.Publish(t.Context(), "", "orders", amqp.Publishing{Body: []byte("meanwhile")}) }()
		time.Sleep(2 * time.Hour)
		must(t, b.Start())
		must(t, <-sent)

		handled := make(chan string, 2)
		c, err := consumer.New(conn, consumer.Config{Queue: "orders"}, func(_ context.Context, d *consumer.Delivery) error {
			handled <- string(d.Body)
			return nil
		})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- c.Run(ctx) }()
		if x, y := <-handled, <-handled; x != "before" || y != "meanwhile" {
			t.Errorf("handled %s, %s", x, y)
		}
		must(t, b.AwaitIdle(ctx))
		cancel()
		must(t, <-ran)
		must(t, p.Close(t.Context()))
		must(t, conn.Close(t.Context()))
	})
}

func TestThousandBrokersLeaveNoGoroutines(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for i := range 1000 {
		b, err := amqptest.New(amqptest.Config{InMemory: i%2 == 0})
		must(t, err)
		if i%10 == 0 { // with a client that is cut off
			nc, err := b.Dial(t.Context(), "", "")
			must(t, err)
			_, err = nc.Write([]byte("AMQP\x00\x00\x09\x01"))
			must(t, err)
			_, err = nc.Read(make([]byte, 1))
			must(t, err)
		}
		must(t, b.Close())
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		br, err := amqptest.New(amqptest.Config{})
		must(b, err)
		must(b, br.Close())
	}
}

// BenchmarkRoundTrip publishes with a confirm over TCP, consumes and acks.
func BenchmarkRoundTrip(b *testing.B) {
	for _, kind := range []string{"classic", "quorum"} {
		b.Run(kind, func(b *testing.B) {
			_, ch := dial(b, amqptest.Start(b))
			_, err := ch.QueueDeclare("q", true, false, false, false, amqp.Table{"x-queue-type": kind})
			must(b, err)
			must(b, ch.Confirm(false))
			ds, err := ch.Consume("q", "", false, false, false, false, nil)
			must(b, err)
			for b.Loop() {
				dc, err := ch.PublishWithDeferredConfirm("", "q", false, false, amqp.Publishing{Body: []byte("x")})
				must(b, err)
				d := <-ds
				must(b, d.Ack(false))
				dc.Wait()
			}
		})
	}
}

func TestOnlyTheConnectionsWithTheNameAreClosed(t *testing.T) {
	b := amqptest.Start(t)
	dial := func(name string) chan *amqp.Error {
		t.Helper()
		ac, err := amqp.DialConfig(b.URL(), amqp.Config{Properties: amqp.Table{"connection_name": name}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ac.Close() })
		return ac.NotifyClose(make(chan *amqp.Error, 1))
	}
	first, second, other := dial("orders"), dial("orders"), dial("billing")
	if n := b.CloseConnection("orders", 320, "CONNECTION_FORCED - as asked"); n != 2 {
		t.Errorf("closed %d connections, want 2", n)
	}
	for _, closed := range []chan *amqp.Error{first, second} {
		if err := <-closed; err == nil || err.Code != 320 {
			t.Errorf("closed with %v", err)
		}
	}
	if err := b.Await(t.Context(), func() bool { return len(b.Connections()) == 1 }); err != nil || b.Connections()[0].Name != "billing" {
		t.Errorf("open: %+v, %v", b.Connections(), err)
	}
	select {
	case err := <-other:
		t.Errorf("the other connection was closed: %v", err)
	default:
	}
}
