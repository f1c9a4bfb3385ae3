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

// failure renders an error with its AMQP reply code and text.
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

// message renders a delivery with all properties that are the same in every run.
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

// body renders a body, or its length if it is longer than 100 bytes.
func body(b []byte) string {
	if len(b) > 100 {
		return fmt.Sprintf("of %d bytes", len(b))
	}
	return fmt.Sprintf("%q", b)
}

// value renders a table value with its type. Keys are sorted. Timestamps are left out because they differ in every run.
func value(v any) string {
	switch v := v.(type) {
	case amqp.Table:
		var fields []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			name := k
			if q := strconv.Quote(k); len(q) != len(k)+2 { // k has non-printable bytes
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
