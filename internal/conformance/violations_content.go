package conformance

import (
	"bytes"
	"fmt"
	"math"
	"slices"
)

var qosFrame = call(1, 60, 10, uint32(0), uint16(0), byte(0))

var contentViolations = []Scenario{
	violate("contents-out-of-order", []violation{
		{"a header without basic.publish", ready, [][]byte{noContent}, nil},
		{"a body without basic.publish", ready, [][]byte{body1}, nil},
		{"an empty body without basic.publish", ready, [][]byte{frame(bodyFrame, 1, nil)}, nil},
		{"a body instead of a header", ready, [][]byte{unroutable, body1}, nil},
		{"a method instead of a header", ready, [][]byte{unroutable, qosFrame}, nil},
		{"basic.publish instead of a header", ready, [][]byte{unroutable, unroutable}, nil},
		{"channel.close instead of a header", ready, [][]byte{unroutable, call(1, 20, 40, uint16(200), "bye", uint16(0), uint16(0))}, nil},
		{"a malformed method instead of a header", ready, [][]byte{unroutable, call(1, 60, 10)}, nil},
		{"a header instead of a body", ready, [][]byte{unroutable, oneByte, oneByte}, nil},
		{"a method instead of a body", ready, [][]byte{unroutable, oneByte, qosFrame}, nil},
		{"a heartbeat on the channel instead of a header", ready, [][]byte{unroutable, frame(heartbeatFrame, 1, nil)}, nil},
		{"a heartbeat on channel 0 before header and body", ready, [][]byte{unroutable, frame(heartbeatFrame, 0, nil), oneByte, frame(heartbeatFrame, 0, nil), body1, qosFrame}, nil},
		{
			"channel 2 between the frames of channel 1", ready,
			[][]byte{call(2, 20, 10, "")},
			[][]byte{unroutable, call(2, 60, 10, uint32(0), uint16(0), byte(0)), oneByte, call(2, 60, 10, uint32(0), uint16(0), byte(0)), body1, qosFrame},
		},
		{"a header without a size, then a body", ready, [][]byte{unroutable, noContent, body1}, nil},
		{"a header without a size, then an empty body", ready, [][]byte{unroutable, noContent, frame(bodyFrame, 1, nil)}, nil},
		{"empty bodies before the whole", ready, [][]byte{unroutable, oneByte, frame(bodyFrame, 1, nil), frame(bodyFrame, 1, nil), body1, qosFrame}, nil},
		{"a body longer than announced", ready, [][]byte{unroutable, oneByte, frame(bodyFrame, 1, payload("xy"))}, nil},
		{"a second body longer than announced", ready, [][]byte{unroutable, contentHeader(1, 2, uint16(0)), body1, frame(bodyFrame, 1, payload("xy"))}, nil},
		{"a body shorter than announced", ready, [][]byte{unroutable, contentHeader(1, 2, uint16(0)), body1}, nil},
		{"basic.publish alone", ready, [][]byte{unroutable}, nil},
		{"basic.publish to a missing exchange, alone", ready, [][]byte{publish(1, "missing", "k", false)}, nil},
		{"basic.publish with immediate, alone", ready, [][]byte{call(1, 60, 40, uint16(0), "", "k", byte(2))}, nil},
	}),
	violate("invalid-content-headers", slices.Concat(
		forEach([]uint16{0, 10, 50, 61, 65535}, func(class uint16) violation {
			return violation{fmt.Sprintf("of class %d", class), ready, [][]byte{unroutable, headerOf(class, 0, 0, uint16(0))}, nil}
		}),
		forEach([]uint16{1, 65535}, func(weight uint16) violation {
			return violation{fmt.Sprintf("of weight %d", weight), ready, [][]byte{unroutable, headerOf(60, weight, 0, uint16(0))}, nil}
		}),
		[]violation{
			{"of weight 1 and class 50", ready, [][]byte{unroutable, headerOf(50, 1, 0, uint16(0))}, nil},
			{"of class 50 and a size of 2^63", ready, [][]byte{unroutable, headerOf(50, 0, 1<<63, uint16(0))}, nil},
			{"of weight 1 and a size of 2^63", ready, [][]byte{unroutable, headerOf(60, 1, 1<<63, uint16(0))}, nil},
		},
		forEach([]uint64{16 << 20, 16<<20 + 1, 512 << 20, 512<<20 + 1, 1 << 31, 1 << 32, 1<<63 - 1, 1 << 63, math.MaxUint64}, func(size uint64) violation {
			return violation{fmt.Sprintf("for %d bytes", size), ready, [][]byte{unroutable, headerOf(60, 0, size, uint16(0))}, nil}
		}),
		forEach([]int{0, 1, 11, 12, 13}, func(n int) violation {
			whole := pack(nil, uint16(60), uint16(0), uint64(0), uint16(0))
			return violation{fmt.Sprintf("of %d bytes", n), ready, [][]byte{unroutable, frame(headerFrame, 1, whole[:n])}, nil}
		}),
		forEach([]uint16{1, 2, 3}, func(flags uint16) violation {
			return violation{fmt.Sprintf("with flags %d", flags), ready, [][]byte{unroutable, contentHeader(1, 0, flags), qosFrame}, nil}
		}),
		[]violation{
			{"with a flag for more flags, and those", ready, [][]byte{unroutable, contentHeader(1, 0, uint16(1), uint16(0)), qosFrame}, nil},
			{"with something behind the properties", ready, [][]byte{unroutable, contentHeader(1, 0, uint16(0), byte(0)), qosFrame}, nil},
			{"without a property that it announces", ready, [][]byte{unroutable, contentHeader(1, 0, uint16(1<<15)), qosFrame}, nil},
			{"with a property that is cut off", ready, [][]byte{unroutable, contentHeader(1, 0, uint16(1<<15), payload("\x05abc")), qosFrame}, nil},
			{"with headers that are cut off", ready, [][]byte{unroutable, contentHeader(1, 0, uint16(1<<13), payload("\x00\x00\x00\x05\x01kt")), qosFrame}, nil},
			{"with a property that is not UTF-8", ready, [][]byte{unroutable, contentHeader(1, 0, uint16(1<<15), "\xff"), qosFrame}, nil},
			{"with every property", ready, [][]byte{unroutable, contentHeader(1, 0, uint16(0xFFFC), "a", "b", table(nil), byte(2), byte(9), "c", "d", "10", "e", uint64(1), "f", "guest", "g", "h"), qosFrame}, nil},
		},
		[]violation{
			{"malformed, of a message to a missing exchange", ready, [][]byte{publish(1, "missing", "k", false), contentHeader(1, 0, uint16(0), byte(0)), qosFrame}, nil},
			{"malformed, of a message to an internal exchange", ready, [][]byte{publish(1, "amq.rabbitmq.trace", "k", false), contentHeader(1, 0, uint16(0), byte(0)), qosFrame}, nil},
			{"malformed, of a message with immediate", ready, [][]byte{call(1, 60, 40, uint16(0), "", "k", byte(2)), contentHeader(1, 0, uint16(0), byte(0)), qosFrame}, nil},
		},
	)),
	violate("malformed-arguments", slices.Concat(
		[]violation{
			{"basic.qos without any", ready, [][]byte{call(1, 60, 10)}, nil},
			{"basic.qos with one byte too few", ready, [][]byte{call(1, 60, 10, uint32(0), uint16(0))}, nil},
			{"basic.qos with one byte too many", ready, [][]byte{call(1, 60, 10, uint32(0), uint16(0), byte(0), byte(0))}, nil},
			{"basic.qos with reserved bits", ready, [][]byte{call(1, 60, 10, uint32(0), uint16(0), byte(0xFE))}, nil},
			{"basic.publish without any", ready, [][]byte{call(1, 60, 40)}, nil},
			{"basic.publish with reserved bits", ready, [][]byte{call(1, 60, 40, uint16(0), "", "nobody", byte(0xFC)), noContent, qosFrame}, nil},
			{"basic.publish with a ticket", ready, [][]byte{call(1, 60, 40, uint16(7), "", "nobody", byte(0)), noContent, qosFrame}, nil},
			{"basic.publish with a longer string", ready, [][]byte{call(1, 60, 40, uint16(0), payload("\xffx"))}, nil},
			{"basic.publish with names that are not UTF-8", ready, [][]byte{publish(1, "", "\xff", false), noContent, qosFrame}, nil},
			{"basic.ack with one byte too few", ready, [][]byte{call(1, 60, 80, uint64(1))}, nil},
			{"tx.select with a byte", ready, [][]byte{call(1, 90, 10, byte(0))}, nil},
			{"confirm.select with reserved bits", ready, [][]byte{call(1, 85, 10, byte(0xFE))}, nil},
			{"channel.open without any", ready, [][]byte{call(2, 20, 10)}, nil},
			{"channel.open with a string", ready, [][]byte{call(2, 20, 10, "out of band")}, nil},
			{"channel.open with invalid UTF-8", ready, [][]byte{call(2, 20, 10, "\xff")}, nil},
			{"channel.close with invalid UTF-8", ready, [][]byte{call(1, 20, 40, uint16(200), "\xff", uint16(0), uint16(0))}, nil},
			{"channel.close without any", ready, [][]byte{call(1, 20, 40)}, nil},
			{"connection.close without any", ready, [][]byte{call(0, 10, 50)}, nil},
			{"connection.close with invalid UTF-8", ready, [][]byte{call(0, 10, 50, uint16(200), "\xff", uint16(0), uint16(0))}, nil},
			{"connection.close with a byte too many", ready, [][]byte{call(0, 10, 50, uint16(200), "bye", uint16(0), uint16(0), byte(0))}, nil},
			{"connection.close-ok with a byte", ready, [][]byte{call(0, 10, 51, byte(0))}, nil},
			{"connection.update-secret without any", ready, [][]byte{call(0, 10, 70)}, nil},
			{"connection.update-secret", ready, [][]byte{call(0, 10, 70, longstr("guest"), "why")}, nil},
			{"queue.declare without a table", ready, [][]byte{call(1, 50, 10, uint16(0), "q", byte(1))}, nil},
			{"queue.declare with a table that is cut off", ready, [][]byte{call(1, 50, 10, uint16(0), "q", byte(1), payload("\x00\x00\x00\x09\x01k"))}, nil},
			{"basic.consume with a tag that is not UTF-8", ready, [][]byte{call(1, 60, 20, uint16(0), "q", "\xff", byte(0), table(nil))}, nil},
			{"basic.cancel with a tag that is not UTF-8", ready, [][]byte{call(1, 60, 30, "\xff", byte(0))}, nil},
			{"exchange.declare with a type that is not UTF-8", ready, [][]byte{call(1, 40, 10, uint16(0), "x", "\xff", byte(0), table(nil))}, nil},
			{"queue.bind with a key that is not UTF-8", ready, [][]byte{call(1, 50, 20, uint16(0), "q", "x", "\xff", byte(0), table(nil))}, nil},
			{"basic.get with 36 malformed bytes", ready, [][]byte{call(1, 60, 70, payload("0123456789abcdefghijklmnopqrstuvwxyz"))}, nil},
			{"basic.get with 200 malformed bytes", ready, [][]byte{call(1, 60, 70, bytes.Repeat([]byte{200}, 200))}, nil},
			{"basic.get with non-printable bytes", ready, [][]byte{call(1, 60, 70, payload("\x00\x01\xff"))}, nil},
		},
		forEach(brokenTables, func(b brokenTable) violation {
			return violation{"queue.declare (passive) with " + b.what, ready, [][]byte{call(1, 50, 10, uint16(0), "missing", byte(1), table(b.fields))}, nil}
		}),
		forEach(brokenTables, func(b brokenTable) violation {
			return violation{"a message with " + b.what, ready, [][]byte{unroutable, contentHeader(1, 0, uint16(1<<13), table(b.fields)), qosFrame}, nil}
		}),
	)),
}

// A brokenTable is a malformed table, or a valid one close to it.
type brokenTable struct{ what, fields string }

var brokenTables = []brokenTable{
	{"a key alone", "\x01k"},
	{"a key that is cut off", "\x05k"},
	{"a type alone", "\x01kI"},
	{"a number that is cut off", "\x01kI\x00\x00\x00"},
	{"a string that is cut off", "\x01kS\x00\x00\x00\x05abc"},
	{"a string of 2^32-1 bytes", "\x01kS\xff\xff\xff\xffabc"},
	{"an unknown type", "\x01kZ\x00\x00\x00\x00"},
	{"a short string (type s of AMQP 0-9-1)", "\x01ks\x03abc"},
	{"an unsigned number (type U of AMQP 0-9-1)", "\x01kU\x00\x07"},
	{"a table that is cut off", "\x01kF\x00\x00\x00\x09\x01at\x01"},
	{"an unknown type in a table", "\x01kF\x00\x00\x00\x03\x01aZ"},
	{"an unknown type in an array", "\x01kA\x00\x00\x00\x01Z"},
	{"an array that is cut off", "\x01kA\x00\x00\x00\x09t\x01"},
	{"NaN", "\x01kd\x7f\xf8\x00\x00\x00\x00\x00\x00"},
	{"infinity in an array", "\x01kA\x00\x00\x00\x05f\x7f\x80\x00\x00"},
	{"a byte behind the last field", "\x01kV\x00"},
	{"an empty key", "\x00V"},
	{"a key that is not UTF-8", "\x01\xffV"},
	{"a boolean of 2", "\x01kt\x02"},
}
