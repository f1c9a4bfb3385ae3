package integration

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// python is the one that Debian's python3-pika is for. Another one, first on PATH, may not have it.
const python = "/usr/bin/python3"

const (
	pikaSent     = " [x] Sent 'Hello World!'"
	pikaReceived = " [x] Received b'Hello World!'"
	sent         = ` [x] Sent "Hello World!"`
	received     = ` [x] Received "Hello World!"`
	waiting      = " [*] Waiting for messages. To exit press CTRL+C"
)

// startPika runs send or receive, the pika scripts as they are, on the shared broker.
func startPika(t *testing.T, script string) *program {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import pika").CombinedOutput(); err != nil {
		t.Fatalf("pika is missing (%v: %s); install it: apt-get install -y --no-install-recommends python3-pika", err, out)
	}
	path := filepath.Join("testdata", "pika", script+".py")
	return startProgram(t, broker(t).URL(), path, python, "-u", path) // -u: lines come when they are printed
}

func TestHelloSharesTheQueueThatPikaDeclaredFirst(t *testing.T) {
	examples := buildExamples(t, "hello/send", "hello/receive")
	forget(t, "hello")

	startPika(t, "send").expectAll(pikaSent)
	receive := examples.start(t, "hello/receive")
	receive.expectAnyOrder(waiting, received)
	startPika(t, "send").expectAll(pikaSent)
	receive.expect(received)
	receive.interrupt()
	if s := receive.stderr.String(); !strings.Contains(s, "sharing it") {
		t.Errorf("the receiver says %q, want that the queue is shared and does not survive", s)
	}
	expectSettled(t, "hello")

	pika := startPika(t, "receive")
	pika.expect(waiting)
	send := examples.start(t, "hello/send")
	send.expectAll(sent)
	if s := send.stderr.String(); !strings.Contains(s, "sharing it") {
		t.Errorf("the sender says %q, want that the queue is shared and does not survive", s)
	}
	pika.expect(pikaReceived)
	pika.signal()
	pika.expectAll("Interrupted")
	expectSettled(t, "hello")
}

// The queue is gone with the broker. Were the receiver to declare its own in its place, the scripts could
// no longer use it.
func TestHelloStillSharesWithPikaAfterARestart(t *testing.T) {
	b := needsControl(t)
	examples := buildExamples(t, "hello/receive")
	forget(t, "hello")
	startPika(t, "send").expectAll(pikaSent)
	receive := examples.start(t, "hello/receive")
	receive.expectAnyOrder(waiting, received)

	if err := b.Restart(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}

	startPika(t, "send").expectAll(pikaSent)
	receive.expect(received)
	startPika(t, "send").expectAll(pikaSent)
	receive.expect(received)
	receive.interrupt()
	expectSettled(t, "hello")
}

func TestHelloDeclaresTheQueueAsPikaDoesIfAsked(t *testing.T) {
	examples := buildExamples(t, "hello/send", "hello/receive")

	t.Run("receive first", func(t *testing.T) {
		forget(t, "hello")
		receive := examples.start(t, "hello/receive", "-pika")
		receive.expect(waiting)
		startPika(t, "send").expectAll(pikaSent)
		receive.expect(received)
		receive.interrupt()
		expectSettled(t, "hello")
	})

	t.Run("send first", func(t *testing.T) {
		forget(t, "hello")
		examples.start(t, "hello/send", "-pika").expectAll(sent)
		pika := startPika(t, "receive")
		pika.expectAnyOrder(waiting, pikaReceived)
		pika.signal()
		pika.expectAll("Interrupted")
		expectSettled(t, "hello")
	})
}

// Whoever declares a queue first decides what it is: pika's scripts have no way to share a durable one, and
// -pika cannot change one that is there. Both are told.
func TestDurableHelloIsRefusedToUnmodifiedPika(t *testing.T) {
	needsControl(t) // a broker of the user's own may be set to accept it
	examples := buildExamples(t, "hello/send", "hello/receive")
	forget(t, "hello")
	examples.start(t, "hello/send").expectAll(sent)

	for _, script := range []string{"send", "receive"} {
		pika := startPika(t, script)
		pika.expectEnd()
		pika.exits(1)
		if s := pika.stderr.String(); !strings.Contains(s, "inequivalent arg 'durable' for queue 'hello'") {
			t.Errorf("pika's %s says %q, want 406 for durable", script, s)
		}
	}
	for _, name := range []string{"hello/send", "hello/receive"} {
		p := examples.start(t, name, "-pika")
		p.expectEnd()
		p.exits(1)
		if s := p.stderr.String(); !strings.Contains(s, `queue "hello": durable is true on the broker and false in the declaration`) {
			t.Errorf("%s -pika says %q, want the conflict", name, s)
		}
	}
	if n := ready(t, "hello"); n != 1 {
		t.Errorf("the queue holds %d messages, want the one sent", n)
	}
}

// With relaxed checks the scripts, unmodified, use the quorum queue that amqpkit declared. RabbitMQ 4.0 has them too.
func TestRelaxedBrokerLetsUnmodifiedPikaUseTheQuorumQueue(t *testing.T) {
	needs43(t)
	b := needsControl(t)
	examples := buildExamples(t, "hello/send", "hello/receive")
	forget(t, "hello")
	// What quorum_queue.property_equivalence.relaxed_checks_on_redeclaration in rabbitmq.conf sets.
	relax := func(ctx context.Context, to string) {
		if _, err := b.Ctl(ctx, "eval", "application:set_env(rabbit, quorum_relaxed_checks_on_redeclaration, "+to+")."); err != nil {
			t.Error(err)
		}
	}
	relax(within(t, programPatience), "true")
	t.Cleanup(func() { relax(context.Background(), "false") })

	receive := examples.start(t, "hello/receive")
	receive.expect(waiting)
	startPika(t, "send").expectAll(pikaSent)
	receive.expect(received)
	receive.interrupt()
	if s := receive.stderr.String(); s != "" {
		t.Errorf("the receiver says %q: is its queue not a durable one?", s)
	}
	examples.start(t, "hello/send").expectAll(sent)
	pika := startPika(t, "receive")
	pika.expectAnyOrder(waiting, pikaReceived)
	pika.signal()
	pika.expectAll("Interrupted")
	expectSettled(t, "hello")
}
