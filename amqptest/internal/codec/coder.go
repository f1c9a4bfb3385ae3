package codec

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

var (
	// errSyntax reports missing or surplus bytes.
	errSyntax = errors.New("codec: malformed")

	// ErrTable reports a table that RabbitMQ cannot decode: truncated, with a field of unknown type, or with a float
	// that is not finite.
	ErrTable = errors.New("codec: malformed table")

	// ErrUTF8 reports a short string that is not valid UTF-8.
	ErrUTF8 = errors.New("codec: malformed UTF-8")
)

// A coder decodes or encodes the fields of a method, so that each method lists its fields once.
type coder struct {
	writing bool
	buf     []byte // decoding: the remaining bytes; encoding: the bytes so far
	bits    byte
	nbits   int
	err     error
	inner   error // the first ErrTable or ErrUTF8, reported only if all fields could be separated
}

// finish returns the decoding error, also for surplus bytes.
func (c *coder) finish() error {
	if c.err == nil && len(c.buf) > 0 {
		c.err = errSyntax
	}
	if c.err == nil {
		c.err = c.inner
	}
	return c.err
}

func (c *coder) fault(err error) {
	if c.inner == nil {
		c.inner = err
	}
}

// take returns the next n bytes, or nil after an error.
func (c *coder) take(n int) []byte {
	if c.err == nil && n > len(c.buf) {
		c.err = errSyntax
	}
	if c.err != nil {
		return nil
	}
	b := c.buf[:n]
	c.buf = c.buf[n:]
	return b
}

// flush ends a run of bits, which share octets.
func (c *coder) flush() {
	if c.writing && c.nbits > 0 {
		c.buf = append(c.buf, c.bits)
	}
	c.bits, c.nbits = 0, 0
}

func (c *coder) bit(vs ...*bool) {
	for _, v := range vs {
		if c.nbits == 8 {
			c.flush()
		}
		switch {
		case c.writing && *v:
			c.bits |= 1 << c.nbits
		case !c.writing:
			if c.nbits == 0 {
				if b := c.take(1); b != nil {
					c.bits = b[0]
				}
			}
			*v = c.bits>>c.nbits&1 == 1
		}
		c.nbits++
	}
}

func (c *coder) u8(v *uint8) {
	c.flush()
	if c.writing {
		c.buf = append(c.buf, *v)
	} else if b := c.take(1); b != nil {
		*v = b[0]
	}
}

func (c *coder) u16(v *uint16) {
	c.flush()
	if c.writing {
		c.buf = binary.BigEndian.AppendUint16(c.buf, *v)
	} else if b := c.take(2); b != nil {
		*v = binary.BigEndian.Uint16(b)
	}
}

func (c *coder) u32(v *uint32) {
	c.flush()
	if c.writing {
		c.buf = binary.BigEndian.AppendUint32(c.buf, *v)
	} else if b := c.take(4); b != nil {
		*v = binary.BigEndian.Uint32(b)
	}
}

func (c *coder) u64(v *uint64) {
	c.flush()
	if c.writing {
		c.buf = binary.BigEndian.AppendUint64(c.buf, *v)
	} else if b := c.take(8); b != nil {
		*v = binary.BigEndian.Uint64(b)
	}
}

// reserved skips the ticket of AMQP 0-8.
func (c *coder) reserved() {
	var v uint16
	c.u16(&v)
}

// short codes a string of up to 255 bytes. Encoding truncates a longer one.
func (c *coder) short(v *string) {
	c.flush()
	if c.writing {
		c.buf = appendShort(c.buf, *v)
	} else if n := c.take(1); n != nil {
		*v = string(c.take(int(n[0])))
	}
}

// name codes a short string that must be valid UTF-8.
func (c *coder) name(v *string) {
	c.short(v)
	if !c.writing && c.err == nil && !utf8.ValidString(*v) {
		c.fault(ErrUTF8)
	}
}

func (c *coder) long(v *[]byte) {
	c.flush()
	if c.writing {
		c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(len(*v)))
		c.buf = append(c.buf, *v...)
	} else if n := c.take(4); n != nil {
		*v = append([]byte(nil), c.take(size(n))...)
	}
}

func (c *coder) table(v *Table) {
	c.flush()
	if c.writing {
		c.buf = AppendTable(c.buf, *v)
	} else if n := c.take(4); n != nil {
		if b := c.take(size(n)); c.err == nil {
			t, err := ParseTable(b)
			if *v = t; err != nil {
				c.fault(err)
			}
		}
	}
}

// size reads a 32-bit length, limited to the maximum of a 32-bit int.
func size(b []byte) int { return int(min(binary.BigEndian.Uint32(b), 1<<31-1)) }

func appendShort(b []byte, s string) []byte {
	s = s[:min(len(s), 255)]
	return append(append(b, byte(len(s))), s...)
}
