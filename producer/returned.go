package producer

import (
	"bytes"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// isReturnOf reports whether ret is r's. A basic.return carries no delivery tag, so a message
// is known by what it is. A message id made by the producer settles it; a caller's own may
// stand on several messages, and then everything counts that the broker sends back. Messages
// that share all of it may swap their returns without harm.
func isReturnOf(ret *amqp.Return, r *Receipt) bool {
	m := &r.msg.Publishing
	if ret.MessageId != m.MessageId || r.own {
		return ret.MessageId == m.MessageId
	}
	return ret.Exchange == r.msg.Exchange && ret.RoutingKey == r.msg.Key &&
		ret.CorrelationId == m.CorrelationId && ret.ReplyTo == m.ReplyTo && ret.Type == m.Type && ret.AppId == m.AppId &&
		ret.ContentType == m.ContentType && ret.ContentEncoding == m.ContentEncoding &&
		ret.Expiration == m.Expiration && ret.Priority == m.Priority && ret.DeliveryMode == m.DeliveryMode &&
		bytes.Equal(ret.Body, m.Body) && fmt.Sprint(asReturned(ret.Headers)) == fmt.Sprint(asReturned(m.Headers))
}

// asReturned makes headers comparable as text: on the wire integers may change their size,
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
