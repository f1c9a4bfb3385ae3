package amqptest

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The frame types.
const (
	FrameMethod    byte = 1
	FrameHeader    byte = 2
	FrameBody      byte = 3
	FrameHeartbeat byte = 8
)

const (
	frameHeader = 7    // type, channel, payload size
	frameEnd    = 0xCE // the octet after the payload
)

// protocolHeader is sent by a client before its first frame, and by a broker that requires another protocol version.
const protocolHeader = "AMQP\x00\x00\x09\x01"

var errFrame = errors.New("amqptest: not an AMQP frame")

// A Frame is an AMQP 0-9-1 frame (section 2.3.5 of the specification) without the end octet.
type Frame struct {
	// Type is one of FrameMethod, FrameHeader, FrameBody and FrameHeartbeat.
	Type byte

	// Channel is the channel number, zero for methods of the connection and heartbeats.
	Channel uint16

	// Payload is the encoded payload.
	Payload []byte
}

// Method returns the class and method ids of a method frame, such as 60 and 80 for basic.ack. ok is false for all
// other frames.
func (f Frame) Method() (class, method uint16, ok bool) {
	if f.Type != FrameMethod || len(f.Payload) < 4 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(f.Payload), binary.BigEndian.Uint16(f.Payload[2:]), true
}

// id returns the class and method ids in one number, 0 for frames other than method frames.
func (f Frame) id() methodID {
	class, method, _ := f.Method()
	return methodID(class)<<16 | methodID(method)
}

// arguments reads the arguments of a method frame.
func (f Frame) arguments() arguments { return arguments{rest: f.Payload[4:]} }

// appendTo appends the encoded frame.
func (f Frame) appendTo(b []byte) []byte {
	b = append(b, f.Type)
	b = binary.BigEndian.AppendUint16(b, f.Channel)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Payload)))
	b = append(b, f.Payload...)
	return append(b, frameEnd)
}

// peekFrame reads the frame header at the start of b. size is the size of the encoded frame as claimed by the sender,
// up to 4 GiB, and 0 while the header is incomplete.
func peekFrame(b []byte) (f Frame, size int64, err error) {
	if len(b) > 0 {
		switch b[0] {
		case FrameMethod, FrameHeader, FrameBody, FrameHeartbeat:
		default:
			return f, 0, errFrame
		}
	}
	if len(b) < frameHeader {
		return f, 0, nil
	}
	f = Frame{Type: b[0], Channel: binary.BigEndian.Uint16(b[1:])}
	return f, frameHeader + int64(binary.BigEndian.Uint32(b[3:])) + 1, nil
}

// nextFrame is like peekFrame, and sets the payload, which aliases b, once b contains the whole frame.
func nextFrame(b []byte) (f Frame, size int64, err error) {
	f, size, err = peekFrame(b)
	if err != nil || size == 0 || int64(len(b)) < size {
		return f, size, err
	}
	if b[size-1] != frameEnd {
		return f, 0, errFrame
	}
	f.Payload = b[frameHeader : size-1]
	return f, size, nil
}

// MethodFrame returns a method frame. The type of an argument selects its encoding: bool and uint8 an octet (up to
// eight packed bits), uint16, uint32 and uint64 an integer, string a short string of at most 255 bytes, and []byte a
// long string, or a table if empty. It panics on other types.
func MethodFrame(channel, class, method uint16, args ...any) Frame {
	b := binary.BigEndian.AppendUint16(nil, class)
	b = binary.BigEndian.AppendUint16(b, method)
	for _, arg := range args {
		switch v := arg.(type) {
		case bool:
			b = append(b, bits(v))
		case uint8:
			b = append(b, v)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, v)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, v)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, v)
		case string:
			if len(v) > 255 {
				panic(fmt.Sprintf("amqptest: short string of %d bytes, at most 255 are allowed", len(v)))
			}
			b = append(append(b, byte(len(v))), v...)
		case []byte:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
		default:
			panic(fmt.Sprintf("amqptest: cannot encode an argument of type %T", arg))
		}
	}
	return Frame{Type: FrameMethod, Channel: channel, Payload: b}
}

// bits packs flags into an octet, the first one in the lowest bit.
func bits(flags ...bool) uint8 {
	var b uint8
	for i, set := range flags {
		if set {
			b |= 1 << i
		}
	}
	return b
}

// IsMethod returns a function that matches the frames of one method: IsMethod(60, 40) matches basic.publish.
func IsMethod(class, method uint16) func(Frame) bool {
	return func(f Frame) bool {
		c, m, ok := f.Method()
		return ok && c == class && m == method
	}
}

// IsConfirm matches basic.ack and basic.nack: confirms from the broker, settlements from the client.
func IsConfirm(f Frame) bool {
	return f.id() == basicAck || f.id() == basicNack
}
