package publishing

import (
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

func TestS24ConfirmThatStaysAwayIsUnconfirmedAndTheYoungerGoOnOverANewChannel(t *testing.T) {
	const timeout = time.Second
	b := kit.NeedsControl(t)
	queue := kit.QuorumQueue(t, nil)
	name := kit.Unique("recycled")
	proxy, conn := kit.Through(t, amqpkit.Config{Name: name})
	p := kit.NewProducer(t, conn, producer.Config{ConfirmTimeout: timeout})
	ctx := kit.Within(t, 20*time.Second)
	if err := p.Publish(ctx, "", queue, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	session, err := conn.PublishConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	proxy.DropConfirms(true)
	proxy.Observe(func(e amqptest.Event) {
		if e.Kind == amqptest.ChannelClosed { // what goes over the next one is confirmed
			proxy.DropConfirms(false)
		}
	})
	start := time.Now()
	old := make([]*producer.Receipt, 200) // of which the second half follows somewhat later
	for i := range old {
		if i == len(old)/2 {
			<-time.After(time.Until(start.Add(timeout / 4)))
		}
		if old[i], err = p.PublishAsync(ctx, "", queue, amqp.Publishing{MessageId: "old"}); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(time.Until(start.Add(timeout * 3 / 4))) // this one has most of its time left when theirs is over
	young, err := p.PublishAsync(ctx, "", queue, amqp.Publishing{MessageId: "young"})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range old {
		err := r.Wait(ctx)
		if took := time.Since(start); !errors.Is(err, producer.ErrUnconfirmed) || !errors.Is(err, producer.ErrConfirmTimeout) || !producer.MaybeDelivered(err) || took < timeout || took > timeout+kit.Soon {
			t.Fatalf("message %d: %v after %v, want ErrUnconfirmed and ErrConfirmTimeout after %v", i, err, took, timeout)
		}
	}
	t.Logf("told after %v with a timeout of %v", time.Since(start), timeout)
	if err := young.Wait(ctx); err != nil {
		t.Errorf("the younger one: %v", err)
	}
	if held := kit.Copies(kit.Drained(t, kit.RawChannel(t), queue)); held["old"] != len(old) || held["young"] != 2 {
		t.Errorf("the queue held %v, want each old one once and young twice: only that was sent again", held)
	}
	if after, err := conn.PublishConnection(ctx); after != session || err != nil {
		t.Errorf("the connection was lost over it (%v)", err)
	}
	clients, err := b.Clients(ctx)
	if c := clients[name]; err != nil || c.Channels != 1 {
		t.Errorf("the broker has %+v (%v), want one channel", c, err)
	}
}

// What is confirmed one after the other shows that the broker is slow, not stuck.
func TestS24SlowConfirmsAreNoTimeout(t *testing.T) {
	const timeout = 600 * time.Millisecond
	queue := kit.QuorumQueue(t, nil)
	proxy, conn := kit.Through(t, amqpkit.Config{})
	p := kit.NewProducer(t, conn, producer.Config{ConfirmTimeout: timeout})
	receipts, last := unanswered(t, proxy, p, queue, 3)
	ctx := kit.Within(t, 10*time.Second)
	for i, r := range receipts {
		<-time.After(timeout / 2)
		proxy.Inject(amqptest.FromBroker, amqptest.BasicAck(last.Channel, last.Tag-2+uint64(i), false))
		if err := r.Wait(ctx); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
}
