package amqptest

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The types of frames.
const (
	FrameMethod    byte = 1
	FrameHeader    byte = 2
	FrameBody      byte = 3
	FrameHeartbeat byte = 8
)

const (
	frameHeader = 7    // type, channel, size of the payload
	frameEnd    = 0xCE // one octet after the payload
)

// protocolHeader is what a client sends before its first frame, and a broker that speaks another version answers.
const protocolHeader = "AMQP\x00\x00\x09\x01"

// errFrame reports bytes that are no frame.
var errFrame = errors.New("amqptest: not an AMQP frame")

// A Frame is what AMQP 0-9-1 sends everything in (section 2.3.5 of its specification). The end octet is implied.
type Frame struct {
	Type    byte
	Channel uint16
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

// id is Method in one number, 0 for all other frames.
func (f Frame) id() methodID {
	class, method, _ := f.Method()
	return methodID(class)<<16 | methodID(method)
}

// arguments reads what follows the ids in a method frame.
func (f Frame) arguments() arguments { return arguments{rest: f.Payload[4:]} }

// appendTo appends the frame as it goes over the wire.
func (f Frame) appendTo(b []byte) []byte {
	b = append(b, f.Type)
	b = binary.BigEndian.AppendUint16(b, f.Channel)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Payload)))
	b = append(b, f.Payload...)
	return append(b, frameEnd)
}

// peekFrame reads the header of the frame that b begins with, and returns the frame's whole size on the wire. The
// size is what the sender claims: up to 4 GiB. It is 0 while the header is incomplete.
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

// nextFrame is peekFrame with the payload, which is a part of b, once b holds the whole frame.
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

// Method makes a method frame. Arguments are encoded by their type: bool and uint8 as an octet (which holds
// up to eight bits), uint16, uint32 and uint64 as themselves, string as a short string of at most 255 bytes, []byte
// as a long string or, if empty, as a table. It panics on anything else.
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
				panic(fmt.Sprintf("amqptest: a short string of %d bytes", len(v)))
			}
			b = append(append(b, byte(len(v))), v...)
		case []byte:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
		default:
			panic(fmt.Sprintf("amqptest: an argument of type %T", arg))
		}
	}
	return Frame{Type: FrameMethod, Channel: channel, Payload: b}
}

// bits packs flags as AMQP does, the first one lowest.
func bits(flags ...bool) uint8 {
	var b uint8
	for i, set := range flags {
		if set {
			b |= 1 << i
		}
	}
	return b
}

// IsMethod matches the frames of one method, for [Faults.CutAt]: IsMethod(60, 40) is basic.publish.
func IsMethod(class, method uint16) func(Frame) bool {
	return func(f Frame) bool {
		c, m, ok := f.Method()
		return ok && c == class && m == method
	}
}

// IsConfirm matches basic.ack and basic.nack: from the broker they are confirms, from the client settlements.
func IsConfirm(f Frame) bool {
	return f.id() == basicAck || f.id() == basicNack
}
