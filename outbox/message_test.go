package outbox

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/producer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// FuzzMessage checks that a row keeps every part of a message that Add accepts.
func FuzzMessage(f *testing.F) {
	f.Add("orders", "order.paid", "17", "text/plain", "int64:5", "id", []byte("body"), int64(1_700_000_000))
	f.Add("", "base64:Kg==", "", "", "\x00", "", []byte(nil), int64(0))
	f.Fuzz(func(t *testing.T, exchange, key, ordering, contentType, header, id string, body []byte, stamp int64) {
		m := Message{Exchange: exchange, Key: key, OrderingKey: ordering, Publishing: amqp.Publishing{
			ContentType: contentType, MessageId: id, Body: body, Headers: amqp.Table{"h": header, "n": int32(7), "b": body},
			Timestamp: time.Unix(stamp, 0),
		}}
		r, err := newRow(m, validate.MaxBody)
		if err != nil {
			return
		}
		out, err := r.publishing()
		if err != nil {
			t.Fatalf("%s: %v", r.message, err)
		}
		want := producer.Message{Exchange: exchange, Key: key, Publishing: m.Publishing}
		if id == "" {
			want.Publishing.MessageId = out.Publishing.MessageId
		}
		if body == nil {
			out.Publishing.Body, out.Publishing.Headers["b"] = nil, body
		}
		if !reflect.DeepEqual(out, want) {
			t.Fatalf("row of\n%+v is\n%+v", want, out)
		}
		if got := orderingKey(r.key, out.Publishing.MessageId); got != ordering && ordering != keyless+id {
			t.Fatalf("ordering key %q, want %q", got, ordering)
		}
		if out.Publishing.MessageId == "" {
			t.Fatal("no message id")
		}
	})
}

func TestAHistoryKeepsTheFirstAndTheLatestAttempts(t *testing.T) {
	history := ""
	for n := range 100 {
		history = addAttempt(history, Attempt{n + 1, time.Unix(0, 0), strings.Repeat("é\x00", 1000)})
		if len(history) > 8000 {
			t.Fatalf("the history has %d bytes after %d attempts", len(history), n+1)
		}
	}
	list := attempts(history)
	var numbers []int
	for _, a := range list {
		numbers = append(numbers, a.Attempt)
	}
	if got := fmt.Sprint(numbers); got != "[1 94 95 96 97 98 99 100]" {
		t.Fatalf("attempts %s", got)
	}
}

func TestPausesGrowTo5Seconds(t *testing.T) {
	var p pause
	for range 100 {
		if d := p.next(); d > lastPause+time.Millisecond || d <= 0 {
			t.Fatalf("pause of %s", d)
		}
	}
}

func TestALeaseEndsItsContextWhenItExpires(t *testing.T) {
	var l leases
	l.begin(t.Context())
	defer l.stop()
	l.keep(map[int]bool{0: true, 1: true, 2: true}, shards)
	l.renewed(time.Now().Add(50 * time.Millisecond))
	ctx, mine := l.use(0)
	if fmt.Sprint(mine) != "[0 2]" {
		t.Fatalf("shards %v of worker 0, want [0 2]", mine)
	}
	<-ctx.Done()
	if l.valid() {
		t.Error("valid after the end of ctx")
	}
	if _, mine := l.use(0); mine != nil {
		t.Errorf("shards %v without a lease", mine)
	}
	l.renewed(time.Now().Add(time.Minute))
	if ctx, mine := l.use(0); ctx.Err() != nil || len(mine) != 2 {
		t.Errorf("renewed: ctx %v, shards %v", ctx.Err(), mine)
	}
}

func TestASurplusShardIsReleasedAfterTheBatchThatUsesIt(t *testing.T) {
	var l leases
	l.begin(t.Context())
	defer l.stop()
	l.renewed(time.Now().Add(time.Minute))
	l.keep(map[int]bool{0: true, 2: true}, 2)
	l.use(0)
	if surplus := l.keep(map[int]bool{0: true, 2: true}, 1); len(surplus) != 0 {
		t.Fatalf("released %v in use", surplus)
	}
	_, next := l.use(0) // the next batch uses the other one alone
	if len(next) != 1 {
		t.Fatalf("the next batch uses %v, want one shard", next)
	}
	if surplus := l.keep(map[int]bool{0: true, 2: true}, 1); len(surplus) != 1 || surplus[0] == next[0] {
		t.Fatalf("released %v, want the shard that is not in use", surplus)
	}
}
