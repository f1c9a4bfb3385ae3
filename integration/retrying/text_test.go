package retrying

import (
	"strconv"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/topology"
)

// A name, an argument or a message id may hold anything that a terminal obeys, and RabbitMQ repeats it in its texts.
func TestS93ErrorsAndParkedMessagesArePrintedOnOneLine(t *testing.T) {
	ac, name := kit.DialRaw(t), kit.Prefixed(t)
	const bad = "\x1b[31m\u2028"
	dead := func(exchange string) topology.Topology {
		return topology.Topology{Queues: []topology.Queue{{Name: name(bad), DeadLetter: &topology.DeadLetter{Exchange: exchange}}}}
	}
	kit.Declared(t, ac, topology.Topology{Exchanges: []topology.Exchange{{Name: name("dlx" + bad), Type: topology.Fanout}}})
	kit.Declared(t, ac, dead(name("dlx"+bad)))
	unbound := topology.Topology{Bindings: []topology.Binding{{Source: name("none" + bad), Queue: name(bad)}}}
	errs := map[string]error{
		"a conflict":           dead("amq.fanout").Declare(t.Context(), ac),
		"a missing target":     dead(name("none"+bad)).Verify(t.Context(), ac),
		"a missing source":     unbound.Declare(t.Context(), ac),
		"a source, by Verify":  unbound.Verify(t.Context(), ac),
		"an exclusive attempt": topology.Topology{Queues: []topology.Queue{{Name: name(bad), Type: topology.Classic}}}.Declare(t.Context(), ac),
	}
	for what, err := range errs {
		if err == nil {
			t.Errorf("%s is no error", what)
			continue
		}
		expectPrintable(t, what, err.Error())
	}

	parkingQueue := kit.QuorumQueue(t, nil)
	msg := amqp.Publishing{MessageId: "m" + bad + "\n", Headers: amqp.Table{
		history.HeaderQueue: name("q\n" + bad), history.HeaderAttempts: int64(1), history.HeaderError: "boom\r\n" + bad, history.HeaderReason: "why\n",
	}}
	if err := kit.RawChannel(t).PublishWithContext(t.Context(), "", parkingQueue, true, false, msg); err != nil {
		t.Fatal(err)
	}
	kit.WaitFor(t, func() bool { return kit.Ready(t, parkingQueue) == 1 })
	conn := kit.Connect(t, amqpkit.Config{})
	parked, err := parking.Peek(t.Context(), conn, parkingQueue, 10)
	if err != nil || len(parked) != 1 {
		t.Fatalf("%d are parked (%v), want one", len(parked), err)
	}
	expectPrintable(t, "the parked message", parked[0].String())
}

func expectPrintable(t *testing.T, what, text string) {
	t.Helper()
	for _, r := range text {
		if !strconv.IsPrint(r) {
			t.Errorf("%s holds %q: %q", what, r, text)
			return
		}
	}
}
