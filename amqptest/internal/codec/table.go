package codec

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"
)

// A Table is a field table in wire order. The value types, with RabbitMQ's type octets, are bool (t), int8 (b), uint8
// (B), int16 (s), uint16 (u), int32 (I), uint32 (i), int64 (l, L), float32 (f), float64 (d), Decimal (D), string (S),
// []byte (x), time.Time (T), Table (F), []any (A) and nil (V).
type Table []Field

// A Field is an entry of a Table.
type Field struct {
	Key   string
	Value any
}

// A Decimal is Value divided by ten to the power of Scale.
type Decimal struct {
	Scale uint8
	Value int32
}

// maxDepth limits the nesting of tables and arrays.
const maxDepth = 512

// Get returns the value of the first field with the key.
func (t Table) Get(key string) (any, bool) {
	for _, f := range t {
		if f.Key == key {
			return f.Value, true
		}
	}
	return nil, false
}

// Last returns the value of the last field with the key.
func (t Table) Last(key string) (any, bool) {
	for i := len(t) - 1; i >= 0; i-- {
		if t[i].Key == key {
			return t[i].Value, true
		}
	}
	return nil, false
}

// Sorted returns the table sorted bytewise by key, with only the first field of each key. Nested tables stay unchanged.
// RabbitMQ sends the headers of messages in this order.
func (t Table) Sorted() Table {
	t = slices.Clone(t)
	slices.SortStableFunc(t, func(a, b Field) int { return strings.Compare(a.Key, b.Key) })
	return slices.CompactFunc(t, func(a, b Field) bool { return a.Key == b.Key })
}

// With returns the table with a value set: in place if the key exists, otherwise at the front, like RabbitMQ.
func (t Table) With(key string, value any) Table {
	for i, f := range t {
		if f.Key == key {
			c := append(Table(nil), t...)
			c[i].Value = value
			return c
		}
	}
	return append(Table{{key, value}}, t...)
}

// Without returns the table without the first field with the key.
func (t Table) Without(key string) Table {
	i := slices.IndexFunc(t, func(f Field) bool { return f.Key == key })
	if i < 0 {
		return t
	}
	return slices.Delete(slices.Clone(t), i, i+1)
}

// Integer returns an integer value of any width.
func Integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int8:
		return int64(v), true
	case uint8:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int32:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int64:
		return v, true
	}
	return 0, false
}

// TypeName returns the name of a value's type in RabbitMQ's errors.
func TypeName(v any) string {
	switch v.(type) {
	case bool:
		return "bool"
	case int8:
		return "byte"
	case uint8:
		return "unsignedbyte"
	case int16:
		return "short"
	case uint16:
		return "unsignedshort"
	case int32:
		return "signedint"
	case uint32:
		return "unsignedint"
	case int64:
		return "long"
	case float32:
		return "float"
	case float64:
		return "double"
	case Decimal:
		return "decimal"
	case string:
		return "longstr"
	case []byte:
		return "binary"
	case time.Time:
		return "timestamp"
	case Table:
		return "table"
	case []any:
		return "array"
	}
	return "void"
}

// AppendTable appends a table with its length.
func AppendTable(b []byte, t Table) []byte {
	at := len(b) + 4
	b = append(b, 0, 0, 0, 0)
	for _, f := range t {
		b = appendValue(appendShort(b, f.Key), f.Value)
	}
	binary.BigEndian.PutUint32(b[at-4:], uint32(len(b)-at))
	return b
}

func appendValue(b []byte, v any) []byte {
	be := binary.BigEndian
	switch v := v.(type) {
	case bool:
		if v {
			return append(b, 't', 1)
		}
		return append(b, 't', 0)
	case int8:
		return append(b, 'b', byte(v))
	case uint8:
		return append(b, 'B', v)
	case int16:
		return be.AppendUint16(append(b, 's'), uint16(v))
	case uint16:
		return be.AppendUint16(append(b, 'u'), v)
	case int32:
		return be.AppendUint32(append(b, 'I'), uint32(v))
	case uint32:
		return be.AppendUint32(append(b, 'i'), v)
	case int64:
		return be.AppendUint64(append(b, 'l'), uint64(v))
	case float32:
		return be.AppendUint32(append(b, 'f'), math.Float32bits(v))
	case float64:
		return be.AppendUint64(append(b, 'd'), math.Float64bits(v))
	case Decimal:
		return be.AppendUint32(append(b, 'D', v.Scale), uint32(v.Value))
	case string:
		return append(be.AppendUint32(append(b, 'S'), uint32(len(v))), v...)
	case []byte:
		return append(be.AppendUint32(append(b, 'x'), uint32(len(v))), v...)
	case time.Time:
		return be.AppendUint64(append(b, 'T'), uint64(v.Unix()))
	case Table:
		return AppendTable(append(b, 'F'), v)
	case []any:
		b = append(b, 'A', 0, 0, 0, 0)
		at := len(b)
		for _, e := range v {
			b = appendValue(b, e)
		}
		be.PutUint32(b[at-4:], uint32(len(b)-at))
		return b
	}
	return append(b, 'V')
}

// ParseTable decodes the fields of a table without its length. The error is [ErrTable].
func ParseTable(b []byte) (Table, error) {
	c := coder{buf: b}
	t := c.fields(0)
	if c.err != nil {
		return t, ErrTable
	}
	return t, nil
}

func (c *coder) fields(depth int) Table {
	var t Table
	for len(c.buf) > 0 && c.err == nil {
		var f Field
		c.short(&f.Key)
		f.Value = c.value(depth)
		t = append(t, f)
	}
	return t
}

func (c *coder) value(depth int) any {
	kind := c.take(1)
	if kind == nil {
		return nil
	}
	be := binary.BigEndian
	n := width(kind[0])
	if n < 0 {
		length := c.take(4)
		if length == nil {
			return nil
		}
		n = size(length)
	}
	b := c.take(n)
	if c.err != nil {
		return nil
	}
	switch kind[0] {
	case 't':
		return b[0] != 0
	case 'b':
		return int8(b[0])
	case 'B':
		return b[0]
	case 's':
		return int16(be.Uint16(b))
	case 'u':
		return be.Uint16(b)
	case 'I':
		return int32(be.Uint32(b))
	case 'i':
		return be.Uint32(b)
	case 'l', 'L':
		return int64(be.Uint64(b))
	case 'f':
		f := math.Float32frombits(be.Uint32(b))
		c.number(float64(f))
		return f
	case 'd':
		f := math.Float64frombits(be.Uint64(b))
		c.number(f)
		return f
	case 'D':
		return Decimal{b[0], int32(be.Uint32(b[1:]))}
	case 'T':
		return time.Unix(int64(be.Uint64(b)), 0).UTC()
	case 'S':
		return string(b)
	case 'x':
		return append([]byte(nil), b...)
	case 'V':
		return nil
	case 'F', 'A':
		if depth == maxDepth {
			break
		}
		in := coder{buf: b}
		var v any
		if kind[0] == 'F' {
			v = in.fields(depth + 1)
		} else {
			v = in.array(depth + 1)
		}
		c.err = in.err
		return v
	}
	c.err = errSyntax
	return nil
}

func (c *coder) number(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		c.err = errSyntax
	}
}

// width returns the size of a type's values, or -1 if a length precedes the value.
func width(kind byte) int {
	switch kind {
	case 'V':
		return 0
	case 't', 'b', 'B':
		return 1
	case 's', 'u':
		return 2
	case 'I', 'i', 'f':
		return 4
	case 'D':
		return 5
	case 'l', 'L', 'd', 'T':
		return 8
	}
	return -1
}

func (c *coder) array(depth int) []any {
	a := []any{}
	for len(c.buf) > 0 && c.err == nil {
		a = append(a, c.value(depth))
	}
	return a
}
