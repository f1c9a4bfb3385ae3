package conformance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// failure writes an error of the protocol.
func failure(err error) string {
	var e *amqp.Error
	if errors.As(err, &e) && e != nil {
		return fmt.Sprintf("%d %s", e.Code, e.Reason)
	}
	if err == nil || e == nil && errors.As(err, &e) {
		return "without a reason"
	}
	return err.Error()
}

// message writes a delivery with all its properties, but for what no two runs have in common.
func message(d amqp.Delivery) string {
	var b strings.Builder
	fmt.Fprintf(&b, "body %s, exchange %q, key %q", body(d.Body), d.Exchange, d.RoutingKey)
	if d.Redelivered {
		b.WriteString(", redelivered")
	}
	for _, p := range []struct{ name, value string }{
		{"content-type", d.ContentType},
		{"content-encoding", d.ContentEncoding},
		{"correlation-id", d.CorrelationId},
		{"expiration", d.Expiration},
		{"message-id", d.MessageId},
		{"type", d.Type},
		{"user-id", d.UserId},
		{"app-id", d.AppId},
	} {
		if p.value != "" {
			fmt.Fprintf(&b, ", %s %q", p.name, p.value)
		}
	}
	if d.ReplyTo != "" {
		b.WriteString(", reply-to " + d.ReplyTo)
	}
	if d.DeliveryMode != 0 {
		fmt.Fprintf(&b, ", delivery-mode %d", d.DeliveryMode)
	}
	if d.Priority != 0 {
		fmt.Fprintf(&b, ", priority %d", d.Priority)
	}
	if !d.Timestamp.IsZero() {
		b.WriteString(", timestamp " + d.Timestamp.UTC().Format(time.RFC3339))
	}
	if d.Headers != nil {
		b.WriteString(", headers " + value(d.Headers))
	}
	return b.String()
}

// body writes a body, a long one by its length.
func body(b []byte) string {
	if len(b) > 100 {
		return fmt.Sprintf("of %d bytes", len(b))
	}
	return fmt.Sprintf("%q", b)
}

// value writes a value of a table with its type, keys in their order. What a moment was is not told.
func value(v any) string {
	switch v := v.(type) {
	case amqp.Table:
		var fields []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			name := k
			if q := strconv.Quote(k); len(q) != len(k)+2 { // it has bytes that cannot be shown
				name = q
			}
			fields = append(fields, name+": "+value(v[k]))
		}
		return "{" + strings.Join(fields, ", ") + "}"
	case []any:
		var list []string
		for _, e := range v {
			list = append(list, value(e))
		}
		return "[" + strings.Join(list, ", ") + "]"
	case string:
		return fmt.Sprintf("%q", v)
	case time.Time:
		return "a time"
	case nil:
		return "void"
	}
	return fmt.Sprintf("%T(%v)", v, v)
}
