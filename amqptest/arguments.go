package amqptest

import "encoding/binary"

// arguments reads the fields of a method or a content header in order. The bytes are untrusted: a missing field reads
// as zero and sets bad.
type arguments struct {
	rest []byte
	bad  bool
}

// take returns the next n bytes, which alias the frame, or nil.
func (a *arguments) take(n uint64) []byte {
	if a.bad || uint64(len(a.rest)) < n {
		a.bad, a.rest = true, nil
		return nil
	}
	b := a.rest[:n]
	a.rest = a.rest[n:]
	return b
}

func (a *arguments) octet() uint8 {
	if b := a.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (a *arguments) short() uint16 {
	if b := a.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (a *arguments) long() uint32 {
	if b := a.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (a *arguments) longlong() uint64 {
	if b := a.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (a *arguments) shortString() string { return string(a.take(uint64(a.octet()))) }

// longString reads a long string, or a table without decoding it.
func (a *arguments) longString() []byte { return a.take(uint64(a.long())) }

// lookup returns a key's value in a table if it is a long string.
func lookup(table []byte, key string) string {
	a := arguments{rest: table}
	for len(a.rest) > 0 && !a.bad {
		name := a.shortString()
		kind := a.octet()
		value := a.value(kind)
		if name == key && kind == 'S' {
			return string(value)
		}
	}
	return ""
}

// value returns a table value of any type without decoding it. The types are RabbitMQ's
// (https://www.rabbitmq.com/amqp-0-9-1-errata).
func (a *arguments) value(kind byte) []byte {
	switch kind {
	case 't', 'b', 'B':
		return a.take(1)
	case 's', 'u':
		return a.take(2)
	case 'I', 'i', 'f':
		return a.take(4)
	case 'D':
		return a.take(5)
	case 'l', 'L', 'd', 'T':
		return a.take(8)
	case 'S', 'F', 'A', 'x':
		return a.longString()
	case 'V':
		return nil
	}
	a.bad = true
	return nil
}

// contentHeader reads the body size and the message id.
func contentHeader(payload []byte) (bodySize uint64, messageID string, ok bool) {
	a := arguments{rest: payload}
	a.take(4) // class, weight
	bodySize = a.longlong()
	flags := a.short()
	has := func(bit int) bool { return flags&(1<<bit) != 0 }
	for bit := 15; bit > 7; bit-- {
		switch {
		case !has(bit):
		case bit == 13: // headers
			a.longString()
		case bit == 12 || bit == 11: // delivery mode, priority
			a.octet()
		default:
			a.take(uint64(a.octet()))
		}
	}
	if has(7) {
		messageID = a.shortString()
	}
	return bodySize, messageID, !a.bad
}
