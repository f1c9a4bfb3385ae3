package examples

import (
	"fmt"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

func TestHelloReceiverMissesNothingThroughABrokerRestart(t *testing.T) {
	b := kit.NeedsControl(t)
	examples := buildExamples(t, "hello/send", "hello/receive")
	kit.Forget(t, "hello")
	receive := examples.start(t, "hello/receive")
	receive.Expect(kit.Waiting)
	seen := make(map[string]bool)
	readUntil := func(what string, done func() bool) {
		t.Helper()
		for !done() {
			line := receive.Next()
			var body string
			if _, err := fmt.Sscanf(line, " [x] Received %q", &body); err != nil {
				t.Fatalf("while waiting for %s it printed %q: %v", what, line, err)
			}
			seen[body] = true
		}
	}

	examples.start(t, "hello/send", "first").ExpectAll(` [x] Sent "first"`)
	readUntil("the first message", func() bool { return seen["first"] })

	// One sender goes on and on; more messages are handed over while the broker is down.
	ctx := kit.Within(t, 3*time.Minute)
	p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), producer.Config{})
	stream := kit.StartStream(ctx, t, p, "hello", "stream")
	readUntil("the stream", func() bool { return seen["stream 20"] })
	if err := b.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	var during []*producer.Receipt
	for i := range 20 {
		r, err := p.PublishAsync(ctx, "", "hello", amqp.Publishing{Body: fmt.Append(nil, "during ", i)})
		if err != nil {
			t.Fatal(err)
		}
		during = append(during, r)
	}
	if err := b.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for i, r := range during {
		if err := r.Wait(ctx); err != nil {
			t.Fatalf("during %d: %v", i, err)
		}
	}
	examples.start(t, "hello/send", "last").ExpectAll(` [x] Sent "last"`)
	confirmed := slices.Concat(stream.Stop(), []string{"first", "last"})
	for i := range during {
		confirmed = append(confirmed, fmt.Sprint("during ", i))
	}

	readUntil("all that was confirmed", func() bool {
		return !slices.ContainsFunc(confirmed, func(body string) bool { return !seen[body] })
	})
	t.Logf("%d messages confirmed and received", len(confirmed))
	receive.Signal() // the same process as before the restart
	receive.Exits(0)
	kit.ExpectSettled(t, "hello")
}
