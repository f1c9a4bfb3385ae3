package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// These tests show that what the proxy knows of frames is right for a real broker.

func TestProxyKeepsConfirmsBackWhileDeliveriesPass(t *testing.T) {
	p := newProxied(t)
	deliveries, err := p.ch.Consume(p.queue, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.HoldConfirms()
	kept := p.Next(kit.Kind(amqptest.ConfirmHeld))
	c := p.publish([]byte("m"))
	<-deliveries
	if e := <-kept; e.Tag != c.DeliveryTag {
		t.Errorf("the confirm of %d is kept, want %d", e.Tag, c.DeliveryTag)
	}
	select {
	case <-c.Done():
		t.Error("confirmed")
	case <-time.After(1500 * time.Millisecond): // longer than heartbeats may be missing
	}
	p.ReleaseConfirms()
	p.confirmed(c)

	p.DropConfirms(true)
	kept = p.Next(kit.Kind(amqptest.ConfirmHeld))
	lost := p.publish([]byte("m"))
	<-kept
	p.DropConfirms(false)
	c = p.publish([]byte("m"))
	p.confirmed(c)
	select {
	case <-lost.Done():
		t.Error("the confirm that was dropped came")
	default:
	}
}

func TestProxySpeaksForTheBroker(t *testing.T) {
	p := newProxied(t)
	blocked := p.conn.NotifyBlocked(make(chan amqp.Blocking, 2))
	p.Inject(amqptest.FromBroker, amqptest.ConnectionBlocked("low on memory"))
	p.Inject(amqptest.FromBroker, amqptest.ConnectionUnblocked())
	if b := <-blocked; !b.Active || b.Reason != "low on memory" {
		t.Errorf("blocked: %+v", b)
	}
	if b := <-blocked; b.Active {
		t.Errorf("unblocked: %+v", b)
	}
	deliveries, err := p.ch.Consume(p.queue, "tag", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Inject(amqptest.FromBroker, amqptest.BasicDeliver(1, "tag", 7, amqptest.Message{Exchange: "x", Key: "k", Redelivered: true, Body: []byte("forged")})...)
	if d := <-deliveries; string(d.Body) != "forged" || d.DeliveryTag != 7 || !d.Redelivered || d.RoutingKey != "k" {
		t.Errorf("delivered: %+v", d)
	}
	cancelled := p.ch.NotifyCancel(make(chan string, 1))
	p.Inject(amqptest.FromBroker, amqptest.BasicCancel(1, "tag"))
	if tag := <-cancelled; tag != "tag" {
		t.Errorf("cancelled: %q", tag)
	}
	p.HoldConfirms()
	c := p.publish([]byte("m"))
	p.Inject(amqptest.FromBroker, amqptest.BasicNack(1, c.DeliveryTag, false, false))
	if c.Wait() {
		t.Error("a forged nack confirmed")
	}
	gone := p.ch.NotifyClose(make(chan *amqp.Error, 1))
	p.Inject(amqptest.FromBroker, amqptest.ChannelClose(1, 406, "because"))
	if e := <-gone; e == nil || e.Code != 406 || e.Reason != "because" || p.conn.IsClosed() {
		t.Errorf("the channel ended with %v", e)
	}
	p.Inject(amqptest.FromBroker, amqptest.ConnectionClose(320, "operator"))
	p.expectLoss("(320) Reason: \"operator\"")

	p = newProxied(t)
	p.InjectRaw(amqptest.FromBroker, []byte("garbage that is no frame"))
	p.expectLoss("501")
}

func TestProxySpeaksForTheClient(t *testing.T) {
	p := newProxied(t)
	gone := p.ch.NotifyClose(make(chan *amqp.Error, 1))
	p.Inject(amqptest.FromClient, amqptest.BasicAck(1, 99, false))
	if e := <-gone; e == nil || e.Code != 406 || !strings.Contains(e.Reason, "unknown delivery tag 99") {
		t.Errorf("the channel ended with %v", e)
	}
	p.InjectRaw(amqptest.FromClient, []byte("garbage that is no frame"))
	p.expectLoss("501")
}

func TestProxyTellsWhatWasSettledOnTheWire(t *testing.T) {
	p := newProxied(t)
	published := map[string]uint64{}
	p.Observe(func(e amqptest.Event) {
		if e.Kind == amqptest.Published {
			published[e.MessageID] = e.Tag
		}
	})
	last := p.Next(func(e amqptest.Event) bool { return e.Kind == amqptest.Published && e.Tag == 20 })
	for range 20 {
		p.confirmed(p.publish([]byte("m")))
	}
	<-last
	p.Observe(nil)
	if err := p.ch.Qos(20, 0, false); err != nil {
		t.Fatal(err)
	}
	deliveries, err := p.ch.Consume(p.queue, "tag", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 20 {
		d := <-deliveries
		if published[d.MessageId] != uint64(i+1) {
			t.Errorf("%s was published as %d, want %d", d.MessageId, published[d.MessageId], i+1)
		}
		switch {
		case i < 10:
			err = d.Ack(false)
			want = append(want, fmt.Sprint(amqptest.Acked, d.DeliveryTag, d.MessageId, false))
		case i < 14:
			want = append(want, fmt.Sprint(amqptest.Acked, d.DeliveryTag, d.MessageId, true))
		case i == 14:
			want = append(want, fmt.Sprint(amqptest.Acked, d.DeliveryTag, d.MessageId, true))
			err = d.Ack(true)
		case i < 18:
			err = d.Reject(false)
			want = append(want, fmt.Sprint(amqptest.Rejected, d.DeliveryTag, d.MessageId, false))
		case i < 20:
			err = d.Nack(false, false)
			want = append(want, fmt.Sprint(amqptest.DeliveryNacked, d.DeliveryTag, d.MessageId, false))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	after := p.Next(kit.Kind(amqptest.Cancelled))
	if err := p.ch.Cancel("tag", false); err != nil {
		t.Fatal(err)
	}
	<-after
	var got []string
	for _, e := range p.Settlements() {
		got = append(got, fmt.Sprint(e.Kind, e.Tag, e.MessageID, e.Multiple))
	}
	if !slices.Equal(got, want) {
		t.Errorf("settled:\n%q\nwant:\n%q", got, want)
	}
}

func TestProxyTellsAConnsTwoConnectionsApart(t *testing.T) {
	name := kit.Unique("apart")
	proxy, conn := kit.Through(t, amqpkit.Config{Name: name})
	ctx := kit.Within(t, 20*time.Second)
	pub, err := conn.PublishConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := conn.Channel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Consume(kit.QuorumQueue(t, nil), "", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	named := proxy.ForLinks(func(l amqptest.Link) bool { return l.Name == name })
	consuming := named.ForLinks(func(l amqptest.Link) bool { return l.Consumes })
	if all, some := named.Links(), consuming.Links(); all != 2 || some != 1 {
		t.Errorf("%d links, %d of them consuming", all, some)
	}
	consuming.Cut()
	if pub.IsClosed() {
		t.Error("the publishing connection was cut")
	}
	if err := consuming.AwaitLinks(ctx, 0); err != nil {
		t.Error(err)
	}
}
