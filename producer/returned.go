package producer

import (
	"bytes"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A basic.return carries no delivery tag: a message is known by what it is. A message id made
// by the producer settles it. A caller's own may stand on several messages in flight, and
// then everything else has to tell them apart.

// mayBeReturnOf reports whether ret can be r's.
func mayBeReturnOf(ret *amqp.Return, r *Receipt) bool {
	m := &r.msg.Publishing
	return ret.MessageId == m.MessageId && ret.Exchange == r.msg.Exchange && ret.RoutingKey == r.msg.Key && bytes.Equal(ret.Body, m.Body)
}

// isReturnOf reports whether ret, which may be r's, agrees with it in all else that was sent.
// RabbitMQ takes the header BCC away and may be configured to add headers of its own.
func isReturnOf(ret *amqp.Return, r *Receipt) bool {
	m := &r.msg.Publishing
	if ret.CorrelationId != m.CorrelationId || ret.ReplyTo != m.ReplyTo || ret.Type != m.Type || ret.AppId != m.AppId ||
		ret.ContentType != m.ContentType || ret.ContentEncoding != m.ContentEncoding ||
		ret.Expiration != m.Expiration || ret.Priority != m.Priority || ret.DeliveryMode != m.DeliveryMode {
		return false
	}
	for name, sent := range m.Headers {
		back, ok := ret.Headers[name]
		if name != "BCC" && (!ok || fmt.Sprint(asReturned(back)) != fmt.Sprint(asReturned(sent))) {
			return false
		}
	}
	return true
}

// asReturned makes a header comparable as text: on the wire integers may change their size,
// which text does not show, and times lose what is below a second, and their zone.
func asReturned(v any) any {
	switch v := v.(type) {
	case amqp.Table:
		t := make(map[string]any, len(v))
		for k, e := range v {
			t[k] = asReturned(e)
		}
		return t
	case []any:
		a := make([]any, len(v))
		for i, e := range v {
			a[i] = asReturned(e)
		}
		return a
	case time.Time:
		return v.Unix()
	}
	return v
}
