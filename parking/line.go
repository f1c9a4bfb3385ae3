package parking

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// fields returns the name and the place of each part of a message. In an exported line, they are a table of AMQP values.
func fields(p *amqp.Publishing) map[string]any {
	return map[string]any{
		"headers": &p.Headers, "content_type": &p.ContentType, "content_encoding": &p.ContentEncoding, "delivery_mode": &p.DeliveryMode,
		"priority": &p.Priority, "correlation_id": &p.CorrelationId, "reply_to": &p.ReplyTo, "expiration": &p.Expiration, "message_id": &p.MessageId,
		"timestamp": &p.Timestamp, "type": &p.Type, "user_id": &p.UserId, "app_id": &p.AppId, "body": &p.Body,
	}
}

// newLine returns the parts of a message for JSON.
func newLine(p amqp.Publishing) map[string]any {
	line := map[string]any{}
	for name, part := range fields(&p) {
		if v := reflect.ValueOf(part).Elem(); !v.IsZero() {
			line[name] = encode(v.Interface())
		}
	}
	return line
}

// message returns the message of a line.
func message(line map[string]any) (p amqp.Publishing, err error) {
	parts := fields(&p)
	for name, encoded := range line {
		part, known := parts[name]
		if !known {
			return p, fmt.Errorf("unknown field %q", name)
		}
		v, err := decode(encoded)
		if err != nil {
			return p, fmt.Errorf("%s: %w", name, err)
		}
		place := reflect.ValueOf(part).Elem()
		if reflect.TypeOf(v) != place.Type() {
			return p, fmt.Errorf("%s is a %T, not a %s", name, v, place.Type())
		}
		place.Set(reflect.ValueOf(v))
	}
	return p, nil
}

// encode returns an AMQP value for JSON. Null, booleans, strings, lists and tables have a form there. Any other type is a string that begins
// with its name: "int64:5". A string is base64 after such a name if it is not UTF-8 or begins with a name.
func encode(v any) any {
	switch v := v.(type) {
	case nil, bool:
		return v
	case string:
		if name, _, found := strings.Cut(v, ":"); !utf8.ValidString(v) || found && types[name] != nil {
			return "base64:" + base64.StdEncoding.EncodeToString([]byte(v))
		}
		return v
	case amqp.Table:
		object := make(map[string]any, len(v))
		for name, e := range v {
			object[encode(name).(string)] = encode(e)
		}
		return object
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = encode(e)
		}
		return list
	case []byte:
		return "bytes:" + base64.StdEncoding.EncodeToString(v)
	case time.Time:
		return fmt.Sprint("time:", v.Unix())
	case amqp.Decimal:
		return fmt.Sprintf("decimal:%d %d", v.Scale, v.Value)
	}
	return fmt.Sprintf("%T:%v", v, v)
}

var types = map[string]func(string) (any, error){
	"int8": number[int8], "uint8": number[uint8], "int16": number[int16], "uint16": number[uint16], "int32": number[int32], "uint32": number[uint32],
	"int64": number[int64], "float32": number[float32], "float64": number[float64],
	"bytes": func(s string) (any, error) { return base64.StdEncoding.DecodeString(s) },
	"base64": func(s string) (any, error) {
		b, err := base64.StdEncoding.DecodeString(s)
		return string(b), err
	},
	"time": func(s string) (any, error) {
		var seconds int64
		_, err := fmt.Sscan(s, &seconds)
		return time.Unix(seconds, 0), err
	},
	"decimal": func(s string) (any, error) {
		var d amqp.Decimal
		_, err := fmt.Sscan(s, &d.Scale, &d.Value)
		return d, err
	},
}

func number[T any](s string) (any, error) {
	var n T
	_, err := fmt.Sscan(s, &n)
	return n, err
}

// decode returns the AMQP value that encode was called with.
func decode(v any) (any, error) {
	switch v := v.(type) {
	case string:
		if name, s, found := strings.Cut(v, ":"); found && types[name] != nil {
			x, err := types[name](s)
			if err != nil {
				err = fmt.Errorf("%.40q: %w", v, err)
			}
			return x, err
		}
	case map[string]any:
		table := make(amqp.Table, len(v))
		for encoded, e := range v {
			name, err := decode(encoded)
			s, ok := name.(string)
			if err != nil || !ok {
				return nil, fmt.Errorf("%.40q is not a name", encoded)
			}
			if table[s], err = decode(e); err != nil {
				return nil, err
			}
		}
		return table, nil
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			var err error
			if list[i], err = decode(e); err != nil {
				return nil, err
			}
		}
		return list, nil
	case float64:
		return nil, errors.New(`a number has no type; write "int64:5"`)
	}
	return v, nil
}
