package examples

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// startPika runs send or receive, the pika scripts as they are, on the shared broker.
func startPika(t *testing.T, script string) *kit.Program {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), kit.Python, "-c", "import pika").CombinedOutput(); err != nil {
		t.Fatalf("pika is missing (%v: %s); install it: apt-get install -y --no-install-recommends python3-pika", err, out)
	}
	path := filepath.Join("testdata", "pika", script+".py")
	return kit.StartProgram(t, kit.Broker(t).URL(), path, kit.Python, "-u", path) // -u: lines come when they are printed
}

func TestHelloSharesTheQueueThatPikaDeclaredFirst(t *testing.T) {
	examples := buildExamples(t, "hello/send", "hello/receive")
	kit.Forget(t, "hello")

	startPika(t, "send").ExpectAll(kit.PikaSent)
	receive := examples.start(t, "hello/receive")
	receive.ExpectAnyOrder(kit.Waiting, kit.Received)
	startPika(t, "send").ExpectAll(kit.PikaSent)
	receive.Expect(kit.Received)
	receive.Interrupt()
	if s := receive.Stderr.String(); !strings.Contains(s, "sharing it") {
		t.Errorf("the receiver says %q, want that the queue is shared and does not survive", s)
	}
	kit.ExpectSettled(t, "hello")

	pika := startPika(t, "receive")
	pika.Expect(kit.Waiting)
	send := examples.start(t, "hello/send")
	send.ExpectAll(kit.Sent)
	if s := send.Stderr.String(); !strings.Contains(s, "sharing it") {
		t.Errorf("the sender says %q, want that the queue is shared and does not survive", s)
	}
	pika.Expect(kit.PikaReceived)
	pika.Signal()
	pika.ExpectAll("Interrupted")
	kit.ExpectSettled(t, "hello")
}

// The queue is gone with the broker. Were the receiver to declare its own in its place, the scripts could
// no longer use it.
func TestHelloStillSharesWithPikaAfterARestart(t *testing.T) {
	b := kit.NeedsControl(t)
	examples := buildExamples(t, "hello/receive")
	kit.Forget(t, "hello")
	startPika(t, "send").ExpectAll(kit.PikaSent)
	receive := examples.start(t, "hello/receive")
	receive.ExpectAnyOrder(kit.Waiting, kit.Received)

	if err := b.Restart(kit.Within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}

	startPika(t, "send").ExpectAll(kit.PikaSent)
	receive.Expect(kit.Received)
	startPika(t, "send").ExpectAll(kit.PikaSent)
	receive.Expect(kit.Received)
	receive.Interrupt()
	kit.ExpectSettled(t, "hello")
}

func TestHelloDeclaresTheQueueAsPikaDoesIfAsked(t *testing.T) {
	examples := buildExamples(t, "hello/send", "hello/receive")

	t.Run("receive first", func(t *testing.T) {
		kit.Forget(t, "hello")
		receive := examples.start(t, "hello/receive", "-pika")
		receive.Expect(kit.Waiting)
		startPika(t, "send").ExpectAll(kit.PikaSent)
		receive.Expect(kit.Received)
		receive.Interrupt()
		kit.ExpectSettled(t, "hello")
	})

	t.Run("send first", func(t *testing.T) {
		kit.Forget(t, "hello")
		examples.start(t, "hello/send", "-pika").ExpectAll(kit.Sent)
		pika := startPika(t, "receive")
		pika.ExpectAnyOrder(kit.Waiting, kit.PikaReceived)
		pika.Signal()
		pika.ExpectAll("Interrupted")
		kit.ExpectSettled(t, "hello")
	})
}

// Whoever declares a queue first decides what it is: pika's scripts have no way to share a durable one, and
// -pika cannot change one that is there. Both are told.
func TestDurableHelloIsRefusedToUnmodifiedPika(t *testing.T) {
	kit.NeedsControl(t) // a broker of the user's own may be set to accept it
	examples := buildExamples(t, "hello/send", "hello/receive")
	kit.Forget(t, "hello")
	examples.start(t, "hello/send").ExpectAll(kit.Sent)

	for _, script := range []string{"send", "receive"} {
		pika := startPika(t, script)
		pika.ExpectEnd()
		pika.Exits(1)
		if s := pika.Stderr.String(); !strings.Contains(s, "inequivalent arg 'durable' for queue 'hello'") {
			t.Errorf("pika's %s says %q, want 406 for durable", script, s)
		}
	}
	for _, name := range []string{"hello/send", "hello/receive"} {
		p := examples.start(t, name, "-pika")
		p.ExpectEnd()
		p.Exits(1)
		if s := p.Stderr.String(); !strings.Contains(s, `queue "hello": durable is true on the broker and false in the declaration`) {
			t.Errorf("%s -pika says %q, want the conflict", name, s)
		}
	}
	if n := kit.Ready(t, "hello"); n != 1 {
		t.Errorf("the queue holds %d messages, want the one sent", n)
	}
}

// With relaxed checks the scripts, unmodified, use the quorum queue that amqpkit declared. RabbitMQ 4.0 has them too.
func TestRelaxedBrokerLetsUnmodifiedPikaUseTheQuorumQueue(t *testing.T) {
	kit.Needs43(t)
	b := kit.NeedsControl(t)
	examples := buildExamples(t, "hello/send", "hello/receive")
	kit.Forget(t, "hello")
	// What quorum_queue.property_equivalence.relaxed_checks_on_redeclaration in rabbitmq.conf sets.
	relax := func(ctx context.Context, to string) {
		if _, err := b.Ctl(ctx, "eval", "application:set_env(rabbit, quorum_relaxed_checks_on_redeclaration, "+to+")."); err != nil {
			t.Error(err)
		}
	}
	relax(kit.Within(t, kit.ProgramTimeout), "true")
	t.Cleanup(func() { relax(context.Background(), "false") })

	receive := examples.start(t, "hello/receive")
	receive.Expect(kit.Waiting)
	startPika(t, "send").ExpectAll(kit.PikaSent)
	receive.Expect(kit.Received)
	receive.Interrupt()
	if s := withoutInfo(receive.Stderr.String()); s != "" {
		t.Errorf("the receiver says %q: is its queue not a durable one?", s)
	}
	examples.start(t, "hello/send").ExpectAll(kit.Sent)
	pika := startPika(t, "receive")
	pika.ExpectAnyOrder(kit.Waiting, kit.PikaReceived)
	pika.Signal()
	pika.ExpectAll("Interrupted")
	kit.ExpectSettled(t, "hello")
}
