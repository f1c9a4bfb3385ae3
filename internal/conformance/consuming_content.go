package conformance

import (
	"bytes"
	"math"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// headerValues has every type of header value that amqp091-go can send.
var headerValues = []any{
	nil, true, false, byte(200), int8(-100), int16(-30000), uint16(60000), int32(-2e9), uint32(4e9), int64(-9e18), 7,
	float32(0.1), 0.1, 1e300,
	amqp.Decimal{Scale: 2, Value: -12345},
	"text", "", "\x00\xff", strings.Repeat("long", 100), []byte("bytes"),
	[]byte{},
	time.Unix(1_000_000_000, 0).UTC(), time.Unix(0, 0).UTC(),
	amqp.Table{},
	amqp.Table{"a": amqp.Table{"b": []any{int8(1), "x", nil}}},
	[]any{},
	[]any{int16(1), uint32(2), 0.5, []any{[]any{}}, amqp.Table{"k": false}, []byte("b")},
}

var contents = []Scenario{
	{"headers-of-every-type", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			for _, v := range headerValues {
				ch.StoreMessage(q, amqp.Publishing{Headers: amqp.Table{"h": v}})
				first := ch.awaitGet(q)
				s.Must(first.Nack(false, true)) // a quorum queue then encodes the headers again
				again := ch.awaitGet(q)
				s.Must(again.Ack(false))
				s.Note("%s: %s, again %s", header(v), header(first.Headers["h"]), header(again.Headers["h"]))
			}
		}
	}},
	{"properties-are-preserved", func(s *Script) {
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			ch := s.Channel()
			q := ch.Queue(kind, kind, nil)
			for _, m := range []amqp.Publishing{
				{},
				{DeliveryMode: amqp.Transient},
				{
					ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: amqp.Persistent, Priority: 9, CorrelationId: "c\u00e9",
					ReplyTo: "somewhere", MessageId: strings.Repeat("id", 20), Timestamp: time.Unix(1_000_000_000, 5e8), Type: "t", AppId: "a",
				},
				{Timestamp: time.Unix(-1, 0)},
				{Timestamp: time.Unix(1<<40, 0)},
				{Priority: 255},
				{Headers: amqp.Table{"x-own": 1, "x-death": "forged", "deaths": nil}},
			} {
				ch.StoreMessage(q, m)
				s.Must(ch.Get(q).Nack(false, true))
				s.Must(ch.AwaitGet(q).Ack(false))
			}
			long := strings.Repeat("k", 255)
			ch.StoreMessage(q, amqp.Publishing{MessageId: long, Headers: amqp.Table{long: int32(1)}})
			d := ch.awaitGet(q)
			s.Note("id and name of a header of 255 bytes: %v", d.MessageId == long && d.Headers[long] == int32(1))
		}
	}},
	{"not-a-number-in-headers", func(s *Script) {
		for _, v := range []any{math.NaN(), math.Inf(1), float32(math.NaN())} {
			s.Try(value(v), func(ch *Channel) error {
				return ch.PublishWithContext(s.ctx, "amq.fanout", "", false, false, amqp.Publishing{Headers: amqp.Table{"h": v}})
			})
		}
	}},
	{"not-a-number-in-arguments", func(s *Script) {
		s.Try("bind", func(ch *Channel) error {
			return ch.ExchangeBind("amq.fanout", "", "amq.direct", false, amqp.Table{"h": math.NaN()})
		})
	}},
	{"user-id-is-checked", func(s *Script) {
		for _, id := range []string{"guest", "other", "Guest"} {
			s.Try("user-id "+id, func(ch *Channel) error {
				return ch.PublishWithContext(s.ctx, "amq.fanout", "", false, false, amqp.Publishing{UserId: id})
			})
		}
	}},
	{"bodies-of-every-size", func(s *Script) {
		ch := s.Channel()
		frame := ch.conn.Config.FrameSize - 8
		s.Note("a frame has room for %d bytes", frame)
		for _, kind := range []string{"classic", "quorum"} {
			s.Title("%s", kind)
			q := ch.Queue(kind, kind, nil)
			for _, n := range []int{0, 1, frame - 1, frame, frame + 1, 2 * frame, 1_000_000} {
				sent := bytes.Repeat([]byte("amqpkit"), n/7+1)[:n]
				ch.StoreMessage(q, amqp.Publishing{Body: sent})
				d, _, err := ch.Channel.Get(q, true)
				s.Must(err)
				s.Note("%d bytes, as sent: %v", len(d.Body), bytes.Equal(d.Body, sent))
			}
		}
	}},
}

// header is like value but also renders timestamps, which are the same in every run here.
func header(v any) string {
	if t, ok := v.(time.Time); ok {
		return t.UTC().Format(time.RFC3339)
	}
	if s, ok := v.(string); ok && len(s) > 100 {
		return body([]byte(s))
	}
	return value(v)
}
