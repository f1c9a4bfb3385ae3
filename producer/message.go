package producer

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// A Message is what PublishAll takes: a publishing and where it goes.
type Message struct {
	Exchange   string // empty: the default exchange, whose routing key is a queue's name
	Key        string // routing key
	Publishing amqp.Publishing
}

// prepare refuses what is known to make the broker, or amqp091-go, close the channel or the
// connection over this message, and fills in the defaults.
func (p *Producer) prepare(r *Receipt) error {
	m := &r.msg
	if err := check(m, int(p.maxSize.Load())); err != nil {
		return err
	}
	if m.Publishing.MessageId == "" {
		m.Publishing.MessageId, r.own = p.ids.next(), true
	}
	if m.Publishing.DeliveryMode == 0 {
		m.Publishing.DeliveryMode = amqp.Persistent
	}
	return nil
}

func check(m *Message, maxSize int) error {
	if p := wire.Name(m.Exchange); p != nil {
		return fault("Exchange", p.Problem, p.Fix)
	}
	pub := &m.Publishing
	for _, f := range [...]struct{ name, value string }{
		{"Key", m.Key},
		{"ContentType", pub.ContentType},
		{"ContentEncoding", pub.ContentEncoding},
		{"CorrelationId", pub.CorrelationId},
		{"MessageId", pub.MessageId},
		{"Type", pub.Type},
		{"UserId", pub.UserId},
		{"AppId", pub.AppId},
	} {
		if p := wire.Short(f.value); p != nil {
			return fault(f.name, p.Problem, p.Fix)
		}
	}
	if p := wire.ReplyTo(pub.ReplyTo); p != nil {
		return fault("ReplyTo", p.Problem, p.Fix)
	}
	if len(pub.Headers) > 0 {
		if err := checkHeaders(pub.Headers); err != nil {
			return err
		}
	}
	if p := wire.Expiration(pub.Expiration); p != nil {
		return fault("Expiration", p.Problem, p.Fix)
	}
	if pub.DeliveryMode > amqp.Persistent {
		return fault("DeliveryMode", fmt.Sprintf("%d is unknown", pub.DeliveryMode), "leave it zero for amqp.Persistent, or use amqp.Transient")
	}
	if len(pub.Body) > maxSize {
		return fault("Body", fmt.Sprintf("%d bytes are more than the largest message, %d", len(pub.Body), maxSize),
			"store it elsewhere and send a reference, or raise Config.MaxMessageSize together with RabbitMQ's max_message_size")
	}
	return nil
}

func checkHeaders(headers amqp.Table) error {
	if p := wire.Table(headers); p != nil {
		return fault("Headers"+p.Field, p.Problem, p.Fix)
	}
	if err := checkKnownHeaders(headers); err != nil {
		return err
	}
	if err := headers.Validate(); err != nil { // amqp091-go's own opinion, last: it recurses without bound
		return fault("Headers", err.Error(), "use the types of AMQP 0-9-1")
	}
	return nil
}

// checkKnownHeaders checks the headers that RabbitMQ itself reads.
func checkKnownHeaders(headers amqp.Table) error {
	for _, name := range [...]string{"CC", "BCC"} {
		v, ok := headers[name]
		if !ok {
			continue
		}
		keys, ok := v.([]any)
		for _, key := range keys {
			_, isString := key.(string)
			ok = ok && isString
		}
		if !ok {
			return fault("Headers["+wire.Quote(name)+"]", "is no list of routing keys", "use []any of strings")
		}
	}
	if v, ok := headers[wire.StreamFilter]; ok {
		if p := wire.FilterValue(v); p != nil {
			return fault("Headers["+wire.Quote(wire.StreamFilter)+"]", p.Problem, p.Fix)
		}
	}
	return nil
}

// ids makes message ids that are unique across producers: 96 random bits of this one, and a
// number.
type ids struct {
	prefix string
	n      atomic.Uint64
}

func newIDs() *ids {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return &ids{prefix: hex.EncodeToString(b[:]) + "-"}
}

func (i *ids) next() string {
	b := make([]byte, 0, 48)
	b = append(b, i.prefix...)
	return string(strconv.AppendUint(b, i.n.Add(1), 10))
}
