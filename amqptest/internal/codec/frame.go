package codec

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// The types of frames.
const (
	FrameMethod    byte = 1
	FrameHeader    byte = 2
	FrameBody      byte = 3
	FrameHeartbeat byte = 8
)

const (
	// EmptyFrame is what a frame is larger than its payload.
	EmptyFrame = frameHeader + 1

	frameHeader = 7
	frameEnd    = 0xCE
)

// ProtocolHeader is what a client sends first.
const ProtocolHeader = "AMQP\x00\x00\x09\x01"

// Frame is one frame. The payload is valid until the next one is read.
type Frame struct {
	Type    byte
	Channel uint16
	Payload []byte
}

// FrameError reports what is no frame, in RabbitMQ's words.
type FrameError struct {
	Frame  Frame
	Reason string
}

func (e *FrameError) Error() string { return Snippet(e.Frame) + ": " + e.Reason }

// Snippet describes a frame as RabbitMQ's errors do.
func Snippet(f Frame) string {
	what, p := "all", f.Payload
	if len(p) > 16 {
		what, p = "first 16", p[:16]
	}
	return fmt.Sprintf("type %d, %s octets = %s", f.Type, what, Erlang(p))
}

// A Reader reads frames. Max bounds the payload; it may be changed between frames.
type Reader struct {
	Max int
	r   *bufio.Reader
	buf []byte
}

// NewReader reads frames with payloads of up to maximum bytes.
func NewReader(r io.Reader, maximum int) *Reader {
	return &Reader{Max: maximum, r: bufio.NewReaderSize(r, 16<<10)}
}

// Header reads the eight bytes of the protocol header.
func (r *Reader) Header() (string, error) {
	var b [8]byte
	_, err := io.ReadFull(r.r, b[:])
	return string(b[:]), err
}

// Buffered reports whether more has been read from the network than was asked for.
func (r *Reader) Buffered() bool { return r.r.Buffered() > 0 }

// Next reads a frame. What is no frame is a *FrameError.
func (r *Reader) Next() (Frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Type: head[0], Channel: binary.BigEndian.Uint16(head[1:])}
	size := binary.BigEndian.Uint32(head[3:])
	// RabbitMQ lets clients exceed the limit by the size of an empty frame, since some count wrong.
	if uint64(size) > uint64(r.Max)+EmptyFrame {
		return f, &FrameError{f, fmt.Sprintf("{frame_too_large,%d,%d}", size, r.Max)}
	}
	if n := int(size) + 1; n > cap(r.buf) {
		r.buf = make([]byte, n, max(n, 4096))
	}
	b := r.buf[:size+1]
	if _, err := io.ReadFull(r.r, b); err != nil {
		return f, err
	}
	f.Payload = b[:size]
	if b[size] != frameEnd {
		return f, &FrameError{f, fmt.Sprintf("{invalid_frame_end_marker,%d}", b[size])}
	}
	return f, nil
}

// AppendFrame appends a frame as it goes over the wire.
func AppendFrame(b []byte, kind byte, channel uint16, payload []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, channel)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	return append(b, frameEnd)
}

// begin and end enclose a payload that is appended in place.
func begin(b []byte, kind byte, channel uint16) ([]byte, int) {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, channel)
	return append(b, 0, 0, 0, 0), len(b) + 4
}

func end(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at-4:], uint32(len(b)-at))
	return append(b, frameEnd)
}

// AppendMethod appends a method frame.
func AppendMethod(b []byte, channel uint16, m Method) []byte {
	b, at := begin(b, FrameMethod, channel)
	b = binary.BigEndian.AppendUint32(b, uint32(m.ID()))
	w := coder{buf: b, writing: true}
	m.walk(&w)
	w.flush()
	return end(w.buf, at)
}

// AppendContent appends the header and body frames of a message, none larger than frameMax.
func AppendContent(b []byte, channel uint16, properties, body []byte, frameMax int) []byte {
	b, at := begin(b, FrameHeader, channel)
	b = binary.BigEndian.AppendUint32(b, classBasic<<16)
	b = binary.BigEndian.AppendUint64(b, uint64(len(body)))
	b = end(append(b, properties...), at)
	for len(body) > 0 {
		n := len(body)
		if frameMax > 0 {
			n = min(n, frameMax-EmptyFrame)
		}
		b = AppendFrame(b, FrameBody, channel, body[:n])
		body = body[n:]
	}
	return b
}

// ParseHeader reads a content header: the size of the body, and the properties, which are a part of the payload.
func ParseHeader(payload []byte) (size uint64, properties []byte, err error) {
	if len(payload) < 14 {
		return 0, nil, errSyntax
	}
	if c := binary.BigEndian.Uint16(payload); c != classBasic {
		return 0, nil, errSyntax
	}
	return binary.BigEndian.Uint64(payload[4:]), payload[12:], nil
}
