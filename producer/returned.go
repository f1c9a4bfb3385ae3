package producer

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A basic.return carries no delivery tag, so it is matched by everything that RabbitMQ sends back unchanged:
// all but the headers. A message id made by the producer is unique. A caller's message id may not be. Twins
// are messages that differ in nothing but their headers. Without headers they are routed alike and are
// interchangeable; with headers one may be routed and the other returned, so the window sends one only after
// the other has its outcome.

// isReturnOf reports whether ret is the return of r, which is in flight.
func isReturnOf(ret *amqp.Return, r *Receipt) bool {
	m := &r.msg.Publishing
	return ret.MessageId == m.MessageId && ret.Exchange == r.msg.Exchange && ret.RoutingKey == r.msg.Key &&
		ret.CorrelationId == m.CorrelationId && ret.ReplyTo == m.ReplyTo && ret.Type == m.Type && ret.AppId == m.AppId &&
		ret.ContentType == m.ContentType && ret.ContentEncoding == m.ContentEncoding && ret.Expiration == m.Expiration &&
		ret.Priority == m.Priority && ret.DeliveryMode == m.DeliveryMode && bytes.Equal(ret.Body, m.Body)
}

var twinSeed = maphash.MakeSeed()

// twin returns a hash that is equal for twins, and never 0. Other messages rarely have the same hash, and
// then only wait for each other.
func twin(m *Message) uint64 {
	const end = 1024 // bytes of the body: its ends tell most bodies apart, and hashing all of it costs
	var h maphash.Hash
	h.SetSeed(twinSeed)
	p := &m.Publishing
	for _, s := range [...]string{
		p.MessageId, m.Exchange, m.Key, p.CorrelationId, p.ReplyTo, p.Type, p.AppId, p.ContentType, p.ContentEncoding, p.Expiration,
	} {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0xff)
	}
	var b [10]byte
	b[0], b[1] = p.Priority, p.DeliveryMode
	binary.BigEndian.PutUint64(b[2:], uint64(len(p.Body)))
	_, _ = h.Write(b[:])
	_, _ = h.Write(p.Body[:min(len(p.Body), end)])
	_, _ = h.Write(p.Body[max(len(p.Body)-end, 0):])
	return h.Sum64() | 1
}
