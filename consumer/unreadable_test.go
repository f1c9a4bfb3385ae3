package consumer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

func TestUnreadableMessageIsRejectedWithoutCallingTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		b := &connections{on: func(m method, l *link) {
			if m == consume {
				l.deliver(nil)
				l.deliver(poison())
				l.deliver(forged())
			}
		}}
		handled := 0
		_, end := runOn(t, b, Config{Logger: log.logger()}, func(context.Context, *Delivery) error {
			handled++
			return nil
		})
		synctest.Wait()
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
		if handled != 2 || len(b.links) != 1 {
			t.Errorf("%d messages handled over %d connections, want 2 over 1", handled, len(b.links))
		}
		rejects := b.calls(rejectMethod)
		if len(rejects) != 1 || binary.BigEndian.Uint64(rejects[0]) != 2 || rejects[0][8] != 0 {
			t.Errorf("rejected %v, want the second delivery, without requeue", rejects)
		}
		for _, text := range []string{"level=ERROR", "cannot be read: headers are nested deeper than 32", "x-dead-letter-exchange"} {
			if log.count(text) != 1 {
				t.Errorf("%d log lines with %q, want 1", log.count(text), text)
			}
		}
	})
}

func TestUnreadableMessageOfAStreamIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logbook
		b := &connections{stream: true}
		settled := 0
		b.on = func(m method, l *link) {
			switch m {
			case consume:
				if settled == 0 {
					l.deliver(offset(7, nil))
					l.deliver(offset(8, poison()))
				}
			case ackMethod, rejectMethod:
				if settled++; settled == 2 {
					l.cut()
				}
			}
		}
		_, end := runOn(t, b, Config{Logger: log.logger(), Arguments: map[string]any{streamOffset: "first"}}, nop)
		time.Sleep(time.Second)
		synctest.Wait()
		if log.count("level=ERROR") != 1 || log.count("skipped in the stream") != 1 || log.count("offset=8") != 1 || log.count("dead-letter") != 0 {
			t.Errorf("logged %s", log.buf.String())
		}
		asked := slices.DeleteFunc(b.calls(consume), func(args []byte) bool { return bytes.Contains(args, []byte("first-")) })
		if len(asked) < 2 || !bytes.Contains(asked[1], atOffset(9)) {
			t.Errorf("consumed with %q, want to continue at 9", asked)
		}
		_ = end()
	})
}

// forged returns headers in which a publisher forged the mark of an unreadable message.
func forged() amqp.Table { return amqp.Table{"x-amqpkit-unreadable": "forged"} }

func TestGetReturnsAnUnreadableMessageWithAnError(t *testing.T) {
	b := &connections{on: func(m method, l *link) {
		if m == (method{60, 70}) {
			l.deliver(poison())
		}
	}}
	defer b.close()
	d, ok, err := Get(t.Context(), b, "orders")
	var unreadable *UnreadableError
	if !ok || !errors.As(err, &unreadable) || unreadable.Queue != "orders" || unreadable.Reason == "" {
		t.Fatalf("Get = %v, %v, want an UnreadableError", ok, err)
	}
	if _, marked := wire.Unreadable(d.Headers); marked || string(d.Body) != "m" {
		t.Errorf("got %q with headers %v", d.Body, d.Headers)
	}
	if err := d.Reject(false); err != nil {
		t.Errorf("Reject = %v", err)
	}
}

// RabbitMQ closes the connection when it cannot deliver the first message of a stream. A consumer of later messages
// then stops reading the first message.
func TestPoisonFirstMessageOfAStreamClosesOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &connections{stream: true}
		var asked atomic.Int64
		b.on = func(m method, l *link) {
			if m == qos && len(l.tags) == 1 { // on the second channel, behind the consumer's own
				asked.Add(1)
				l.fail(541)
			}
		}
		_, end := runOn(t, b, Config{Arguments: map[string]any{streamOffset: 5}}, nop)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("the first message was requested %d times, want 1", n)
		}
		if err := end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}
