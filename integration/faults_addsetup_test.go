package integration

import (
	"testing"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/topology"
)

func TestS97TopologyThatIsAddedIsDeclaredNowAndOnEveryLaterSession(t *testing.T) {
	t.Parallel()
	b := newConsumerBenchWith(t, amqpkit.Config{})
	queue := unique("s97")
	added := topology.Topology{Queues: []topology.Queue{{Name: queue}}}
	t.Cleanup(func() { _, _ = b.plain.QueueDelete(queue, false, false, false) })
	remove, err := b.conn.AddSetup(b.ctx(), added.Declare)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	r := b.start(consumer.Config{Queue: queue}, bodies(got))
	b.publish(queue, "now")
	receive(t, got, "message")
	b.cut()
	if _, err := b.plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		ac, err := b.conn.ConsumeConnection(b.ctx())
		return err == nil && added.Verify(b.ctx(), ac) == nil
	})
	if err := b.conn.Ready(b.ctx()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return r.Err() == nil })
	b.publish(queue, "later")
	for receive(t, got, "message") != "later" { // the first was redelivered if it was not settled yet
	}
	remove()
	r.stopClean()
}
