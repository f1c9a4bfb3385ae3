package wire

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Limits of amqp091-go's reader. A content header beyond them costs the whole connection there.
const (
	maxFieldDepth    = 32   // tables and arrays within each other
	maxFieldElements = 8192 // entries of one table or array
	readChunk        = 64 << 10

	flagHeaders     = 1 << 13
	contentProperty = frameHeader + contentFixed // where the properties of a content header frame begin
)

// The refusals of a content header. errEnd is amqp091-go's io.EOF: within an array it means that the array is complete.
var (
	errEnd       = errors.New("a field ends too early")
	errCut       = errors.New("a field is cut")
	errLength    = errors.New("a field has an impossible length")
	errDepth     = fmt.Errorf("headers are nested deeper than %d", maxFieldDepth)
	errFrameSize = errors.New("with its headers it is larger than a frame of this connection")
	errElements  = fmt.Errorf("a table or array in the headers has more than %d entries", maxFieldElements)
)

// unreadableHeader replaces the headers of a message that amqp091-go cannot read. Its value begins with a secret of
// the process, so that a publisher cannot forge it.
const unreadableHeader = "x-amqpkit-unreadable"

var unreadableSecret = rand.Text()

// Unreadable reports whether headers replace unreadable ones, and the reason.
func Unreadable(headers amqp.Table) (reason string, ok bool) {
	if len(headers) == 0 || len(headers) > 1+len(keptHeaders) {
		return "", false
	}
	s, _ := headers[unreadableHeader].(string)
	return strings.CutPrefix(s, unreadableSecret)
}

// DeliveryCount returns the number of failed deliveries that a quorum queue has counted for a message. It returns false if
// the headers have no count.
func DeliveryCount(headers amqp.Table) (n int, ok bool) {
	count, ok := headers["x-delivery-count"].(int64)
	return int(max(0, count)), ok
}

// keptHeaders are the headers of an unreadable message that are kept where they are int64: RabbitMQ's own.
var keptHeaders = [...]string{"x-stream-offset", "x-delivery-count", "x-acquired-count"}

// A fields reads the fields of a content header as amqp091-go v1.16 does (read.go), without making values of them.
type fields struct {
	b  []byte
	at int
}

// next returns n bytes, of which none may be behind end.
func (f *fields) next(n, end int) ([]byte, error) {
	left := min(end, len(f.b)) - f.at
	if n <= left {
		f.at += n
		return f.b[f.at-n : f.at], nil
	}
	f.at += max(left, 0)
	if left <= 0 || left%readChunk == 0 {
		return nil, errEnd
	}
	return nil, errCut
}

func (f *fields) short(end int) ([]byte, error) {
	n, err := f.next(1, end)
	if err != nil {
		return nil, err
	}
	return f.next(int(n[0]), end)
}

func (f *fields) length(end int) (int, error) {
	b, err := f.next(4, end)
	if err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(b)
	if n > math.MaxInt32 {
		return 0, errLength
	}
	return int(n), nil
}

func (f *fields) long(end int) ([]byte, error) {
	n, err := f.length(end)
	if err != nil {
		return nil, err
	}
	return f.next(n, end)
}

// fixed returns the bytes of a value of a type with a fixed size.
func fixed(kind byte) (n int, ok bool) {
	switch kind {
	case 'V':
		return 0, true
	case 't', 'B', 'b':
		return 1, true
	case 's', 'u':
		return 2, true
	case 'I', 'i', 'f':
		return 4, true
	case 'l', 'd', 'T':
		return 8, true
	}
	return 0, false
}

// value reads a type and a value.
func (f *fields) value(end, depth int) error {
	b, err := f.next(1, end)
	if err != nil {
		return err
	}
	kind := b[0]
	if n, ok := fixed(kind); ok {
		_, err = f.next(n, end)
		return err
	}
	switch kind {
	case 'D':
		if _, err = f.next(1, end); err == nil {
			_, err = f.next(4, end)
		}
		return err
	case 'S', 'x':
		_, err = f.long(end)
		return err
	case 'A':
		return f.array(end, depth+1)
	case 'F':
		return f.table(end, depth+1)
	}
	return fmt.Errorf("a field of the headers has the unknown type %q", kind)
}

func (f *fields) table(end, depth int) error {
	if depth > maxFieldDepth {
		return errDepth
	}
	b, err := f.long(end)
	if err != nil {
		return err
	}
	t := fields{b: b}
	var names map[string]bool // amqp091-go counts each name once; made when that can matter
	for n := 0; t.at < len(b); n++ {
		name, err := t.short(len(b))
		if err != nil {
			return err
		}
		if err := t.value(len(b), depth); err != nil {
			return err
		}
		if n < maxFieldElements {
			continue
		}
		if names == nil {
			names = firstNames(b)
		}
		if len(names) >= maxFieldElements {
			return errElements
		}
		names[string(name)] = true
	}
	return nil
}

// firstNames returns the names of the first maxFieldElements entries of a table, which were read before.
func firstNames(table []byte) map[string]bool {
	names := map[string]bool{}
	t := fields{b: table}
	for range maxFieldElements {
		name, _ := t.short(len(table))
		_ = t.value(len(table), 0)
		names[string(name)] = true
	}
	return names
}

func (f *fields) array(end, depth int) error {
	if depth > maxFieldDepth {
		return errDepth
	}
	size, err := f.length(end)
	if err != nil {
		return err
	}
	end = min(end, f.at+size)
	for n := 0; ; n++ {
		if err := f.value(end, depth); errors.Is(err, errEnd) {
			return nil
		} else if err != nil {
			return err
		}
		if n >= maxFieldElements {
			return errElements
		}
	}
}

// checkContent returns why amqp091-go would not read a complete content header frame.
func checkContent(frame []byte) error {
	if frame[len(frame)-1] != frameEndMark {
		return nil // amqp091-go refuses it for that
	}
	flags := binary.BigEndian.Uint16(frame[contentProperty-2:])
	f := fields{b: frame[:len(frame)-frameEnd], at: contentProperty}
	_, err := f.properties(flags)
	return err
}

// properties reads the properties up to the first malformed one, and returns the flags of the readable ones.
func (f *fields) properties(flags uint16) (read uint16, err error) {
	for flags >= 1<<2 { // the two below are not for properties
		flag := uint16(1) << (bits.Len16(flags) - 1)
		from := f.at
		if err := f.property(flag); err != nil {
			f.at = from
			return read, err
		}
		read |= flag
		flags &^= flag
	}
	return read, nil
}

func (f *fields) property(flag uint16) (err error) {
	switch flag {
	case flagHeaders:
		return f.table(len(f.b), 0)
	case 1 << 12, 1 << 11: // delivery mode, priority
		_, err = f.next(1, len(f.b))
	case 1 << 6: // timestamp
		_, err = f.next(8, len(f.b))
	default:
		_, err = f.short(len(f.b))
	}
	return err
}

// replaceContent returns a content header frame with the same properties and, instead of its headers, the mark that they
// are unreadable. It leaves out properties that are malformed themselves.
func replaceContent(frame []byte, reason error) []byte {
	all := binary.BigEndian.Uint16(frame[contentProperty-2:])
	body := frame[:len(frame)-frameEnd]
	before := fields{b: body, at: contentProperty}
	flags, err := before.properties(all & (1<<15 | 1<<14))
	out := slices.Clone(body[:before.at])
	var headers []byte
	after := fields{b: body, at: before.at}
	if err == nil && all&flagHeaders != 0 {
		headers, err = after.long(len(body))
	}
	out = appendLong(out, unreadableTable(headers, reason))
	if err == nil {
		from := after.at
		read, _ := after.properties(all & (flagHeaders - 1))
		flags |= read
		out = append(out, body[from:after.at]...)
	}
	binary.BigEndian.PutUint16(out[contentProperty-2:], flags|flagHeaders)
	binary.BigEndian.PutUint32(out[3:], uint32(len(out)-frameHeader)) //nolint:gosec // at most twelve short properties and a small table
	return append(out, frameEndMark)
}

// unreadableTable returns the encoded table that replaces headers.
func unreadableTable(headers []byte, reason error) []byte {
	t := appendShort(nil, unreadableHeader)
	t = appendLong(append(t, 'S'), []byte(unreadableSecret+reason.Error()))
	f := fields{b: headers}
	for f.at < len(headers) {
		name, err := f.short(len(headers))
		if err != nil {
			break
		}
		kind, err := f.next(1, len(headers))
		if err != nil {
			break
		}
		value, err := f.skip(kind[0])
		if err != nil {
			break
		}
		if kind[0] == 'l' && slices.Contains(keptHeaders[:], string(name)) {
			t = append(append(appendShort(t, string(name)), 'l'), value...)
		}
	}
	return t
}

// skip reads a value without looking into it.
func (f *fields) skip(kind byte) ([]byte, error) {
	if n, ok := fixed(kind); ok {
		return f.next(n, len(f.b))
	}
	switch kind {
	case 'D':
		return f.next(5, len(f.b))
	case 'S', 'x', 'A', 'F':
		return f.long(len(f.b))
	}
	return nil, errLength
}

func appendShort(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func appendLong(b, s []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) //nolint:gosec // a small table
}
