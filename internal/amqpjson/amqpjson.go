// Package amqpjson is the JSON form of a message. It keeps the types of all AMQP values.
package amqpjson

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

// fields returns the place of each part of a message by its name.
var fields = map[string]func(p *amqp.Publishing) any{
	"headers":          func(p *amqp.Publishing) any { return &p.Headers },
	"content_type":     func(p *amqp.Publishing) any { return &p.ContentType },
	"content_encoding": func(p *amqp.Publishing) any { return &p.ContentEncoding },
	"delivery_mode":    func(p *amqp.Publishing) any { return &p.DeliveryMode },
	"priority":         func(p *amqp.Publishing) any { return &p.Priority },
	"correlation_id":   func(p *amqp.Publishing) any { return &p.CorrelationId },
	"reply_to":         func(p *amqp.Publishing) any { return &p.ReplyTo },
	"expiration":       func(p *amqp.Publishing) any { return &p.Expiration },
	"message_id":       func(p *amqp.Publishing) any { return &p.MessageId },
	"timestamp":        func(p *amqp.Publishing) any { return &p.Timestamp },
	"type":             func(p *amqp.Publishing) any { return &p.Type },
	"user_id":          func(p *amqp.Publishing) any { return &p.UserId },
	"app_id":           func(p *amqp.Publishing) any { return &p.AppId },
	"body":             func(p *amqp.Publishing) any { return &p.Body },
}

// Encode returns the parts of a message for encoding/json. It omits empty parts.
func Encode(p amqp.Publishing) map[string]any {
	line := map[string]any{}
	for name, field := range fields {
		if v := reflect.ValueOf(field(&p)).Elem(); !v.IsZero() {
			line[name] = encode(v.Interface())
		}
	}
	return line
}

// EncodeText is Encode for lines that people read: the body is text. One that is not UTF-8 is base64.
func EncodeText(p amqp.Publishing) map[string]any {
	line := Encode(p)
	if p.Body != nil {
		line["body"] = encode(string(p.Body))
	}
	return line
}

// Decode returns the message of which Encode or EncodeText returned the parts.
func Decode(line map[string]any) (p amqp.Publishing, err error) {
	for name, encoded := range line {
		field := fields[name]
		if field == nil {
			return p, fmt.Errorf("unknown field %q", name)
		}
		part := reflect.ValueOf(field(&p)).Elem()
		v := decode(encoded, &err)
		if text, ok := v.(string); ok && name == "body" {
			v = []byte(text)
		}
		if err == nil && reflect.TypeOf(v) != part.Type() {
			err = fmt.Errorf("a %T, not a %s", v, part.Type())
		}
		if err != nil {
			return p, fmt.Errorf("%s: %w", name, err)
		}
		part.Set(reflect.ValueOf(v))
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
	"time": number[int64], "bytes": decodeBytes, "base64": decodeBytes, "decimal": func(s string) (any, error) {
		var d amqp.Decimal
		_, err := fmt.Sscan(s, &d.Scale, &d.Value)
		return d, err
	},
}

func decodeBytes(s string) (any, error) { return base64.StdEncoding.DecodeString(s) }

func number[T any](s string) (any, error) {
	var n T
	_, err := fmt.Sscan(s, &n)
	return n, err
}

// decode returns the AMQP value that encode was called with, or sets err.
func decode(v any, err *error) any {
	switch v := v.(type) {
	case string:
		name, s, found := strings.Cut(v, ":")
		if !found || types[name] == nil {
			return v
		}
		x, e := types[name](s)
		if e != nil {
			*err = fmt.Errorf("%.40q: %w", v, e)
			return nil
		}
		switch name {
		case "time":
			return time.Unix(x.(int64), 0)
		case "base64":
			return string(x.([]byte))
		}
		return x
	case map[string]any:
		table := make(amqp.Table, len(v))
		for encoded, e := range v {
			name, ok := decode(encoded, err).(string)
			if !ok {
				*err = fmt.Errorf("%.40q is not a name", encoded)
			}
			table[name] = decode(e, err)
		}
		return table
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = decode(e, err)
		}
		return list
	case float64:
		*err = errors.New(`a number has no type; write "int64:5"`)
	}
	return v
}
