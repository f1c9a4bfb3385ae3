package codec

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"unicode/utf8"
)

// The frame types.
const (
	FrameMethod    byte = 1
	FrameHeader    byte = 2
	FrameBody      byte = 3
	FrameHeartbeat byte = 8
)

const (
	// EmptyFrame is the size of a frame without payload.
	EmptyFrame = frameHeader + 1

	frameHeader = 7
	frameEnd    = 0xCE
)

// ProtocolHeader is the first data that a client sends.
const ProtocolHeader = "AMQP\x00\x00\x09\x01"

// MaxContent is the largest body size that RabbitMQ accepts in a content header.
const MaxContent = 512 << 20

// A Frame is an AMQP frame. Its payload is valid until the next frame is read.
type Frame struct {
	Type    byte
	Channel uint16
	Payload []byte
}

// FrameError reports an invalid frame with RabbitMQ's text.
type FrameError struct {
	Frame  Frame
	Reason string
}

func (e *FrameError) Error() string { return Snippet(e.Frame) + ": " + e.Reason }

// Snippet describes a frame like RabbitMQ's errors.
func Snippet(f Frame) string {
	what, p := "all", f.Payload
	if len(p) > 16 {
		what, p = "first 16", p[:16]
	}
	return fmt.Sprintf("type %d, %s octets = %s", f.Type, what, Erlang(p))
}

// A Reader reads frames. Max limits the payload and can be changed between frames.
type Reader struct {
	Max int
	r   *bufio.Reader
	buf []byte
}

// NewReader returns a Reader for payloads of up to maximum bytes.
func NewReader(r io.Reader, maximum int) *Reader {
	return &Reader{Max: maximum, r: bufio.NewReaderSize(r, 16<<10)}
}

// Header reads the eight bytes of the protocol header.
func (r *Reader) Header() (string, error) {
	var b [8]byte
	_, err := io.ReadFull(r.r, b[:])
	return string(b[:]), err
}

// Buffered reports whether data is buffered.
func (r *Reader) Buffered() bool { return r.r.Buffered() > 0 }

// Ready reports whether Next can return a frame without reading from the network.
func (r *Reader) Ready() bool {
	n := r.r.Buffered()
	if n < EmptyFrame {
		return false
	}
	head, err := r.r.Peek(frameHeader)
	return err == nil && uint64(n) >= uint64(binary.BigEndian.Uint32(head[3:]))+EmptyFrame
}

// Next reads a frame. The error of an invalid frame is a *FrameError.
func (r *Reader) Next() (Frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Type: head[0], Channel: binary.BigEndian.Uint16(head[1:])}
	size := binary.BigEndian.Uint32(head[3:])
	// RabbitMQ tolerates clients that exceed the limit by the size of an empty frame
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
		what := Snippet(f) + ": "
		return f, &FrameError{f, erlangPair(utf8.RuneCountInString(what), "invalid_frame_end_marker", int(b[size]))}
	}
	return f, nil
}

// AppendFrame appends an encoded frame.
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
	b = binary.BigEndian.AppendUint32(b, ClassBasic<<16)
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

// A ContentHeader is the decoded payload of a header frame, which Properties alias.
type ContentHeader struct {
	Class, Weight uint16
	Size          uint64
	Properties    []byte
}

// ParseHeader decodes the payload of a header frame that is not [Frame.Malformed].
func ParseHeader(payload []byte) ContentHeader {
	be := binary.BigEndian
	return ContentHeader{be.Uint16(payload), be.Uint16(payload[2:]), be.Uint64(payload[4:]), payload[12:]}
}

// Malformed reports whether the frame type is unknown or the payload too short for it. A heartbeat must be empty.
func (f Frame) Malformed() bool {
	switch f.Type {
	case FrameMethod:
		return len(f.Payload) < 4
	case FrameHeader:
		return len(f.Payload) < 12
	case FrameBody:
		return false
	case FrameHeartbeat:
		return len(f.Payload) > 0
	}
	return true
}
