package parking

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A value is a header's, in JSON. AMQP has more types than JSON, and consumers tell them apart; so strings, booleans and
// null are themselves, and everything else is an object that names its type: {"int64":5}, {"table":{…}}.
type value struct{ any }

func (v value) MarshalJSON() ([]byte, error) {
	tagged := func(kind string, v any) ([]byte, error) { return json.Marshal(map[string]any{kind: v}) }
	switch x := v.any.(type) {
	case nil, bool:
		return json.Marshal(x)
	case string:
		return octets(x).MarshalJSON()
	case []byte:
		return tagged("bytes", x)
	case time.Time:
		return tagged("time", x.Unix())
	case amqp.Decimal:
		return tagged("decimal", [2]int64{int64(x.Scale), int64(x.Value)})
	case amqp.Table:
		fields := make(map[string]value, len(x))
		for k, e := range x {
			if !utf8.ValidString(k) {
				return tagged("entries", entries(x))
			}
			fields[k] = value{e}
		}
		return tagged("table", fields)
	case []any:
		list := make([]value, len(x))
		for i, e := range x {
			list[i] = value{e}
		}
		return tagged("list", list)
	case int8, uint8, int16, uint16, int32, uint32, int64, float32, float64:
		return tagged(fmt.Sprintf("%T", x), x)
	}
	return nil, fmt.Errorf("a header of type %T", v.any)
}

// entries are the names and values of a table, one of whose names JSON has no text for.
func entries(t amqp.Table) [][2]value {
	var pairs [][2]value
	for _, k := range slices.Sorted(maps.Keys(t)) {
		pairs = append(pairs, [2]value{{k}, {t[k]}})
	}
	return pairs
}

// Octets are a string of AMQP, which may be anything, in JSON: itself, or {"string":base64} where JSON has no text for it.
type octets string

func (o octets) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(o)) {
		return json.Marshal(string(o))
	}
	return json.Marshal(map[string][]byte{"string": []byte(o)})
}

func (o *octets) UnmarshalJSON(b []byte) error {
	var v value
	if err := v.UnmarshalJSON(b); err != nil {
		return err
	}
	s, ok := v.any.(string)
	if !ok {
		return fmt.Errorf("%.40s is no string", b)
	}
	*o = octets(s)
	return nil
}

func (v *value) UnmarshalJSON(b []byte) error {
	var plain any
	if err := json.Unmarshal(b, &plain); err != nil {
		return err
	}
	switch plain.(type) {
	case nil, bool, string:
		v.any = plain
		return nil
	}
	var tagged map[string]json.RawMessage
	if err := json.Unmarshal(b, &tagged); err != nil || len(tagged) != 1 {
		return fmt.Errorf("%.40s is no header value", b)
	}
	for kind, raw := range tagged {
		x, err := typed(kind, raw)
		if err != nil {
			return fmt.Errorf("header value of type %.20q: %w", kind, err)
		}
		v.any = x
	}
	return nil
}

// typed reads a value of a named type.
func typed(kind string, raw json.RawMessage) (any, error) {
	switch kind {
	case "int8":
		return as[int8](raw)
	case "uint8":
		return as[uint8](raw)
	case "int16":
		return as[int16](raw)
	case "uint16":
		return as[uint16](raw)
	case "int32":
		return as[int32](raw)
	case "uint32":
		return as[uint32](raw)
	case "int64":
		return as[int64](raw)
	case "float32":
		return as[float32](raw)
	case "float64":
		return as[float64](raw)
	case "bytes":
		return as[[]byte](raw)
	case "string":
		b, err := as[[]byte](raw)
		return string(b), err
	case "time":
		seconds, err := as[int64](raw)
		return time.Unix(seconds, 0), err
	case "decimal":
		d, err := as[[2]int64](raw)
		return amqp.Decimal{Scale: uint8(d[0]), Value: int32(d[1])}, err
	case "table":
		fields, err := as[map[string]value](raw)
		table := make(amqp.Table, len(fields))
		for k, e := range fields {
			table[k] = e.any
		}
		return table, err
	case "entries":
		pairs, err := as[[][2]value](raw)
		table := make(amqp.Table, len(pairs))
		for _, p := range pairs {
			name, ok := p[0].any.(string)
			if !ok && err == nil {
				err = errors.New("a name is no string")
			}
			table[name] = p[1].any
		}
		return table, err
	case "list":
		values, err := as[[]value](raw)
		list := make([]any, len(values))
		for i, e := range values {
			list[i] = e.any
		}
		return list, err
	}
	return nil, errors.New("unknown")
}

func as[T any](raw json.RawMessage) (T, error) {
	var v T
	err := json.Unmarshal(raw, &v)
	return v, err
}
