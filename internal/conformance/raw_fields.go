package conformance

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// fields decodes a frame without a client library, so that a transcript shows types, order and duplicates.
type fields struct{ b []byte }

func (f *fields) bytes() []byte {
	if f == nil {
		return nil
	}
	return f.b
}

// take returns the next n bytes, padded with zeros if fewer remain.
func (f *fields) take(n int) []byte {
	b := f.b[:min(n, len(f.b))]
	f.b = f.b[len(b):]
	if len(b) < n {
		b = append(b[:len(b):len(b)], make([]byte, n-len(b))...)
	}
	return b
}

func (f *fields) u8() byte      { return f.take(1)[0] }
func (f *fields) u16() uint16   { return binary.BigEndian.Uint16(f.take(2)) }
func (f *fields) u32() uint32   { return binary.BigEndian.Uint32(f.take(4)) }
func (f *fields) u64() uint64   { return binary.BigEndian.Uint64(f.take(8)) }
func (f *fields) short() string { return string(f.take(int(f.u8()))) }
func (f *fields) long() []byte  { return f.take(min(int(f.u32()), len(f.b))) }

// properties renders the properties of a message.
func (f *fields) properties() string {
	flags := f.u16()
	var list []string
	for i, p := range propertyNames {
		if flags&(1<<(15-i)) == 0 {
			continue
		}
		switch p {
		case "headers":
			list = append(list, p+" "+(&fields{b: f.long()}).table())
		case "delivery-mode", "priority":
			list = append(list, fmt.Sprintf("%s %d", p, f.u8()))
		case "timestamp":
			list = append(list, fmt.Sprintf("%s %d", p, f.u64()))
		default:
			list = append(list, fmt.Sprintf("%s %q", p, f.short()))
		}
	}
	if flags&3 != 0 {
		list = append(list, fmt.Sprintf("flags %d", flags&3))
	}
	if len(f.b) > 0 {
		list = append(list, fmt.Sprintf("and %q", f.b))
	}
	if len(list) == 0 {
		return "without properties"
	}
	return strings.Join(list, ", ")
}

var propertyNames = []string{
	"content-type", "content-encoding", "headers", "delivery-mode", "priority", "correlation-id", "reply-to", "expiration",
	"message-id", "timestamp", "type", "user-id", "app-id", "cluster-id",
}

// table renders the fields of a table in their order on the wire, each value after its type.
func (f *fields) table() string {
	var list []string
	for len(f.b) > 0 {
		key := f.short()
		list = append(list, abbreviated(key)+"="+f.value(key == "time"))
	}
	return "{" + strings.Join(list, " ") + "}"
}

func (f *fields) array() string {
	var list []string
	for len(f.b) > 0 {
		list = append(list, f.value(false))
	}
	return "[" + strings.Join(list, " ") + "]"
}

// value renders a type and a value. A timestamp is rendered as "now" if death is set, because it differs in every run.
func (f *fields) value(death bool) string {
	kind := f.u8()
	v := ""
	switch kind {
	case 't', 'B':
		v = fmt.Sprint(f.u8())
	case 'b':
		v = fmt.Sprint(int8(f.u8()))
	case 's':
		v = fmt.Sprint(int16(f.u16()))
	case 'u':
		v = fmt.Sprint(f.u16())
	case 'I':
		v = fmt.Sprint(int32(f.u32()))
	case 'i':
		v = fmt.Sprint(f.u32())
	case 'l', 'L':
		v = fmt.Sprint(int64(f.u64()))
	case 'f':
		v = fmt.Sprint(math.Float32frombits(f.u32()))
	case 'd':
		v = fmt.Sprint(math.Float64frombits(f.u64()))
	case 'D':
		v = fmt.Sprintf("%d/%d", f.u8(), f.u32())
	case 'T':
		v = fmt.Sprint(f.u64())
		if death {
			v = "now"
		}
	case 'S', 'x':
		v = abbreviated(string(f.long()))
	case 'F':
		v = (&fields{b: f.long()}).table()
	case 'A':
		v = (&fields{b: f.long()}).array()
	case 'V':
	default:
		v = fmt.Sprintf("? %q", f.b)
		f.b = nil
	}
	return string(kind) + v
}

func abbreviated(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("(%d bytes)", len(s))
	}
	return fmt.Sprintf("%q", s)
}
