package topology

import (
	"testing"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/topology"
)

func TestS97TopologyThatIsAddedIsDeclaredNowAndOnEveryLaterSession(t *testing.T) {
	t.Parallel()
	b := kit.NewConsumerBenchWith(t, amqpkit.Config{})
	queue := kit.Unique("s97")
	added := topology.Topology{Queues: []topology.Queue{{Name: queue}}}
	t.Cleanup(func() { _, _ = b.Plain.QueueDelete(queue, false, false, false) })
	remove, err := b.Conn.AddSetup(b.Ctx(), added.Declare)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	r := b.Start(consumer.Config{Queue: queue}, kit.Bodies(got))
	b.Publish(queue, "now")
	kit.Receive(t, got, "message")
	b.Cut()
	if _, err := b.Plain.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool {
		ac, err := b.Conn.ConsumeConnection(b.Ctx())
		return err == nil && added.Verify(b.Ctx(), ac) == nil
	})
	if err := b.Conn.Ready(b.Ctx()); err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool { return r.Err() == nil })
	b.Publish(queue, "later")
	for kit.Receive(t, got, "message") != "later" { // the first was redelivered if it was not settled yet
	}
	remove()
	r.StopClean()
}
