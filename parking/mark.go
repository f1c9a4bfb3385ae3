package parking

import (
	"fmt"
	"hash/maphash"
	"maps"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
)

// A mark is a hash of everything that identifies a message. Two messages with the same mark can stand for each other.
type mark uint64

var seed = maphash.MakeSeed()

func markOf(d *consumer.Delivery) mark {
	headers := maps.Clone(d.Headers)
	maps.DeleteFunc(headers, func(name string, _ any) bool { return history.IsCount(name) })
	var h maphash.Hash
	h.SetSeed(seed)
	for _, s := range []string{
		d.MessageId, d.Exchange, d.RoutingKey, d.ContentType, d.ContentEncoding, d.CorrelationId, d.ReplyTo, d.Type, d.AppId,
		d.Timestamp.String(), fmt.Sprint(map[string]any(headers)),
	} {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0)
	}
	_, _ = h.Write(d.Body)
	return mark(h.Sum64())
}
