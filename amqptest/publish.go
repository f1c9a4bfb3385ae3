package amqptest

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/broker"
	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// ErrNacked reports that a queue rejected a message from [Broker.Publish] because the queue is full (x-overflow is
// reject-publish). Other queues may have stored it.
var ErrNacked = errors.New("amqptest: message rejected by a full queue")

// A PublishError reports that the broker refused a message from [Broker.Publish]. A client's channel would have been closed
// with the same code and text.
type PublishError struct {
	// Code is the AMQP reply code, for example 404 if the exchange does not exist.
	Code int

	// Text is the reply text, for example "NOT_FOUND - no exchange 'orders' in vhost '/'".
	Text string
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("amqptest: publish refused: %d %s", e.Code, e.Text)
}

// Publish publishes a message without a connection, in the first of Config.VHosts. An empty exchange is the default exchange,
// which routes to the queue named by the routing key. Publish uses the properties, headers and body of m and ignores the other
// fields. It reports whether the message was routed to at least one queue; an unroutable message is dropped without an error.
//
// The error is a [*PublishError] if a client's channel would have been closed, [ErrNacked] if a queue rejected the
// message, or [ErrClosed] while the broker is stopped. The faults of the Broker do not affect Publish.
func (b *Broker) Publish(exchange, key string, m Message) (routed bool, err error) {
	p, err := properties(m)
	if err != nil {
		return false, err
	}
	routed, err = b.broker.Publish(b.cfg.VHosts[0], exchange, key, p, slices.Clone(m.Body))
	var refused *broker.Error
	switch {
	case errors.As(err, &refused):
		return false, &PublishError{Code: refused.Code, Text: refused.Text}
	case errors.Is(err, broker.ErrNacked):
		return routed, ErrNacked
	}
	return routed, err
}

// properties sets the properties that are not zero.
func properties(m Message) (*codec.Properties, error) {
	p := new(codec.Properties)
	for _, f := range []struct {
		name     string
		property *string
		bit      uint16
		value    string
	}{
		{"ContentType", &p.ContentType, codec.HasContentType, m.ContentType},
		{"ContentEncoding", &p.ContentEncoding, codec.HasContentEncoding, m.ContentEncoding},
		{"CorrelationID", &p.CorrelationID, codec.HasCorrelationID, m.CorrelationID},
		{"ReplyTo", &p.ReplyTo, codec.HasReplyTo, m.ReplyTo},
		{"Expiration", &p.Expiration, codec.HasExpiration, m.Expiration},
		{"MessageID", &p.MessageID, codec.HasMessageID, m.MessageID},
		{"Type", &p.Type, codec.HasType, m.Type},
		{"UserID", &p.UserID, codec.HasUserID, m.UserID},
		{"AppID", &p.AppID, codec.HasAppID, m.AppID},
	} {
		if len(f.value) > 255 {
			return nil, fmt.Errorf("amqptest: Message.%s: %d bytes, must be at most 255", f.name, len(f.value))
		}
		if f.value != "" {
			*f.property, p.Has = f.value, p.Has|f.bit
		}
	}
	if m.DeliveryMode != 0 {
		p.DeliveryMode, p.Has = m.DeliveryMode, p.Has|codec.HasDeliveryMode
	}
	if m.Priority != 0 {
		p.Priority, p.Has = m.Priority, p.Has|codec.HasPriority
	}
	if !m.Timestamp.IsZero() {
		p.Timestamp, p.Has = uint64(m.Timestamp.Unix()), p.Has|codec.HasTimestamp
	}
	headers, err := table(reflect.ValueOf(m.Headers))
	if err != nil {
		return nil, fmt.Errorf("amqptest: Message.Headers%w", err)
	}
	p.SetHeaders(headers)
	return p, nil
}

// table encodes a map with string keys, in the order of its keys.
func table(v reflect.Value) (codec.Table, error) {
	fields := make(map[string]any, v.Len())
	for _, key := range v.MapKeys() {
		value, err := fieldValue(v.MapIndex(key).Interface())
		if err == nil && len(key.String()) > 255 {
			err = errors.New(": key is longer than 255 bytes")
		}
		if err != nil {
			return nil, fmt.Errorf("[%q]%w", key.String(), err)
		}
		fields[key.String()] = value
	}
	var t codec.Table
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		t = append(t, codec.Field{Key: key, Value: fields[key]})
	}
	return t, nil
}

// fieldValue returns a header's value as the codec knows it. Reflection accepts amqp.Table, which this package
// cannot import, as a map.
func fieldValue(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, int8, uint8, int16, uint16, int32, uint32, int64, float32, float64, string, time.Time:
		return v, nil
	case int:
		return int64(v), nil
	case []byte:
		return slices.Clone(v), nil
	}
	switch r := reflect.ValueOf(v); {
	case r.Kind() == reflect.Map && r.Type().Key().Kind() == reflect.String:
		return table(r)
	case r.Kind() == reflect.Slice:
		list := make([]any, r.Len())
		for i := range list {
			e, err := fieldValue(r.Index(i).Interface())
			if err != nil {
				return nil, fmt.Errorf("[%d]%w", i, err)
			}
			list[i] = e
		}
		return list, nil
	}
	return nil, fmt.Errorf(": type %T cannot be encoded in a field table", v)
}
