package producer

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Message is a publishing for PublishAll, with its exchange and routing key.
type Message struct {
	Exchange   string          // empty: the default exchange, whose routing key is a queue's name
	Key        string          // routing key
	Publishing amqp.Publishing // properties, headers and body
}

// Validate returns the *[amqperr.FieldError] with which Publish would refuse the message, or nil. maxSize is the maximum
// size of the body in bytes, like Config.MaxMessageSize.
func (m Message) Validate(maxSize int) error {
	_, err := check(&m, maxSize)
	return err
}

// maxReceived is the largest header table that Republish accepts, in bytes. The frame size of
// the connection is the limit in practice; this one bounds the check of a table that contains itself.
const maxReceived = 16 << 20

// prepare sets the defaults of a message. It refuses messages for which the broker or amqp091-go would close the
// channel or the connection.
func (p *Producer) prepare(r *Receipt) error {
	m := &r.msg
	verify := check
	if r.received {
		verify = checkReceived
	}
	headers, err := verify(m, int(p.maxSize.Load()))
	if err != nil {
		return err
	}
	switch {
	case m.Publishing.MessageId == "":
		m.Publishing.MessageId = p.ids.next()
	case r.received || !p.cfg.AllowUnroutable:
		r.twin = twin(m)
	}
	if m.Publishing.DeliveryMode == 0 && !r.received {
		m.Publishing.DeliveryMode = amqp.Persistent
	}
	if headers > 0 { // without them the properties fit every frame
		r.header = int32(validate.HeaderSize(&m.Publishing, headers)) //nolint:gosec // at most maxReceived and a little
	}
	return nil
}

// check checks a message and returns the encoded size of its headers. It replaces them by a copy if some of them must be
// sent as another type.
func check(m *Message, maxSize int) (headers int, err error) {
	if err := checkStrings(m, maxSize, validate.Text); err != nil {
		return 0, err
	}
	pub := &m.Publishing
	if p := validate.ReplyTo(pub.ReplyTo); p != nil {
		return 0, fault("ReplyTo", p.Problem, p.Fix)
	}
	if len(pub.Headers) > 0 {
		sent, size, p := validate.Headers(pub.Headers, validate.MaxHeaders)
		if p != nil {
			return 0, fault("Headers"+p.Field, p.Problem, p.Fix)
		}
		if err := checkKnownHeaders(sent); err != nil {
			return 0, err
		}
		pub.Headers, headers = sent, size
	}
	if p := validate.Expiration(pub.Expiration); p != nil {
		return 0, fault("Expiration", p.Problem, p.Fix)
	}
	if !pub.Timestamp.IsZero() {
		if p := validate.Time(pub.Timestamp); p != nil {
			return 0, fault("Timestamp", p.Problem, p.Fix)
		}
	}
	if pub.DeliveryMode > amqp.Persistent {
		return 0, fault("DeliveryMode", fmt.Sprintf("%d is unknown", pub.DeliveryMode), "leave it zero for amqp.Persistent, or use amqp.Transient")
	}
	return headers, nil
}

// checkReceived is check for a message that RabbitMQ has accepted before. It refuses only messages that
// no consumer can have received.
func checkReceived(m *Message, maxSize int) (headers int, err error) {
	if err := checkStrings(m, maxSize, validate.Short); err != nil {
		return 0, err
	}
	pub := &m.Publishing
	if p := validate.DirectReplyTo(pub.ReplyTo); p != nil {
		return 0, fault("ReplyTo", p.Problem, p.Fix)
	}
	if len(pub.Headers) > 0 {
		sent, size, p := validate.Republished(pub.Headers, maxReceived)
		if p != nil {
			return 0, fault("Headers"+p.Field, p.Problem, p.Fix)
		}
		if err := checkRoutes(sent, func(any) bool { return true }); err != nil { // RabbitMQ skips other types
			return 0, err
		}
		pub.Headers, headers = sent, size
	}
	if p := validate.ReceivedExpiration(pub.Expiration); p != nil {
		return 0, fault("Expiration", p.Problem, p.Fix)
	}
	return headers, nil
}

// checkStrings checks the exchange's name, the body, and each short string with text.
func checkStrings(m *Message, maxSize int, text func(string) *validate.Problem) error {
	if p := validate.Name(m.Exchange); p != nil {
		return fault("Exchange", p.Problem, p.Fix)
	}
	pub := &m.Publishing
	for _, f := range [...]struct{ name, value string }{
		{"Key", m.Key},
		{"ContentType", pub.ContentType},
		{"ContentEncoding", pub.ContentEncoding},
		{"CorrelationId", pub.CorrelationId},
		{"ReplyTo", pub.ReplyTo},
		{"MessageId", pub.MessageId},
		{"Type", pub.Type},
		{"UserId", pub.UserId},
		{"AppId", pub.AppId},
	} {
		if f.value == "" {
			continue
		}
		if p := text(f.value); p != nil {
			return fault(f.name, p.Problem, p.Fix)
		}
	}
	if len(pub.Body) > maxSize {
		return fault("Body", fmt.Sprintf("%d bytes are more than the largest message, %d", len(pub.Body), maxSize),
			"store it elsewhere and send a reference, or raise Config.MaxMessageSize together with RabbitMQ's max_message_size")
	}
	return nil
}

// checkKnownHeaders checks the headers that RabbitMQ itself reads.
func checkKnownHeaders(headers amqp.Table) error {
	if err := checkRoutes(headers, func(v any) bool { _, ok := v.(string); return ok }); err != nil {
		return err
	}
	if v, ok := headers[validate.StreamFilter]; ok {
		if p := validate.FilterValue(v); p != nil {
			return fault("Headers["+validate.Quote(validate.StreamFilter)+"]", p.Problem, p.Fix)
		}
	}
	return nil
}

// carbonCopies are the headers that name further routing keys.
// See https://www.rabbitmq.com/docs/sender-selected
var carbonCopies = [...]string{"CC", "BCC"}

// checkRoutes checks the headers that name further routing keys.
func checkRoutes(headers amqp.Table, isKey func(any) bool) error {
	for _, name := range carbonCopies {
		v, ok := headers[name]
		if !ok {
			continue
		}
		keys, ok := v.([]any)
		for _, key := range keys {
			ok = ok && isKey(key)
		}
		if !ok {
			return fault("Headers["+validate.Quote(name)+"]", "is not a list of routing keys", "use []any of strings")
		}
	}
	return nil
}

// ids generates message ids that are unique across producers: 96 random bits of the Producer, and a number.
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
