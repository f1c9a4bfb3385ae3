package conformance

import (
	"bytes"
	"fmt"
	"slices"
)

var violations = []Scenario{
	violate("malformed-frames", slices.Concat(
		forEach([]uint16{0, 1, 5}, func(ch uint16) violation {
			return violation{"a frame of type 4 " + on(ch), ready, [][]byte{frame(4, ch, payload("hi"))}, nil}
		}),
		forEach([]byte{0, 5, 6, 7, 9, 'A', 206, 255}, func(kind byte) violation {
			return violation{fmt.Sprintf("a frame of type %d", kind), ready, [][]byte{frame(kind, 1, payload("0123456789abcdef!"))}, nil}
		}),
		forEach([]uint16{0, 1, 5}, func(ch uint16) violation {
			return violation{"a heartbeat " + on(ch), ready, [][]byte{frame(heartbeatFrame, ch, nil)}, nil}
		}),
		forEach([]uint16{0, 1, 5}, func(ch uint16) violation {
			return violation{"a heartbeat with a payload " + on(ch), ready, [][]byte{frame(heartbeatFrame, ch, payload("hi"))}, nil}
		}),
		forEach([]uint16{0, 1, 5}, func(ch uint16) violation {
			return violation{"an empty method frame " + on(ch), ready, [][]byte{frame(methodFrame, ch, nil)}, nil}
		}),
		forEach([]int{1, 2, 3}, func(n int) violation {
			return violation{fmt.Sprintf("a method frame of %d bytes", n), ready, [][]byte{frame(methodFrame, 1, make([]byte, n))}, nil}
		}),
		forEach([]byte{0, 1, 'x', 0xFF}, func(end byte) violation {
			return violation{fmt.Sprintf("%d at the end of a frame", end), ready, [][]byte{withEnd(call(1, 60, 10, uint32(0), uint16(0), byte(0)), end)}, nil}
		}),
		[]violation{
			{"a wrong end of an empty frame", ready, [][]byte{withEnd(frame(heartbeatFrame, 0, nil), 0)}, nil},
			{"a wrong end of a frame of an unknown type", ready, [][]byte{withEnd(frame(7, 1, payload("hi")), 0)}, nil},
			{"a wrong end during the handshake", greeted, [][]byte{withEnd(frame(heartbeatFrame, 0, nil), 0)}, nil},
		},
		forEach([]uint32{131065, 131072, 131073, 1 << 31, 1<<32 - 1}, func(n uint32) violation {
			b := beyond(bodyFrame, 1, n)
			if n <= 131073 {
				b = frame(bodyFrame, 1, bytes.Repeat([]byte("b"), int(n)))
			}
			return violation{fmt.Sprintf("a frame with a payload of %d bytes", n), ready, [][]byte{b}, nil}
		}),
		[]violation{
			{"a message of one frame that is 8 bytes too long", ready, [][]byte{unroutable, contentHeader(1, 131072, uint16(0)), frame(bodyFrame, 1, make([]byte, 131072))}, nil},
			{"a method of unknown size " + on(0), ready, [][]byte{beyond(methodFrame, 0, 1<<32-1)}, nil},
			{"a wrong end after 16 non-printable bytes", ready, [][]byte{withEnd(frame(methodFrame, 1, bytes.Repeat([]byte{200}, 16)), 100)}, nil},
			{"a wrong end after 12 non-printable bytes", ready, [][]byte{withEnd(frame(methodFrame, 1, bytes.Repeat([]byte{200}, 12)), 100)}, nil},
			{"a wrong end after 16 bytes, one of them non-printable", ready, [][]byte{withEnd(frame(methodFrame, 1, append(bytes.Repeat([]byte{1}, 15), 200)), 9)}, nil},
			{"an unknown frame of 16 non-printable bytes", ready, [][]byte{frame(7, 1, bytes.Repeat([]byte{200}, 16))}, nil},
			{"an unknown frame of 17 non-printable bytes", ready, [][]byte{frame(77, 1, bytes.Repeat([]byte{200}, 17))}, nil},
			{"an unknown frame of 13 non-printable bytes", ready, [][]byte{frame(7, 1, bytes.Repeat([]byte{200}, 13))}, nil},
			{"a body on channel 0 of 16 non-printable bytes", ready, [][]byte{frame(bodyFrame, 0, bytes.Repeat([]byte{200}, 16))}, nil},
			{"a body on channel 0 of printed bytes beyond Latin-1", ready, [][]byte{frame(bodyFrame, 0, payload("\u2192 \u00e4\"\\ tab\t"))}, nil},
			{"a body on channel 0 of Latin-1", ready, [][]byte{frame(bodyFrame, 0, payload("caf\xe9"))}, nil},
			{"random bytes", ready, [][]byte{payload("garbage that is no frame")}, nil},
			{"a second protocol header", ready, [][]byte{payload(protocolHeader)}, nil},
		},
	)),
	violate("unknown-methods", slices.Concat(
		forEach([]uint16{0, 1, 5}, func(ch uint16) violation {
			return violation{"class 61 " + on(ch), ready, [][]byte{call(ch, 61, 10)}, nil}
		}),
		forEach([]uint16{0, 1, 5}, func(ch uint16) violation {
			return violation{"method 60.41 " + on(ch), ready, [][]byte{call(ch, 60, 41)}, nil}
		}),
		forEach([]uint16{0, 1}, func(ch uint16) violation {
			return violation{"method 0.0 " + on(ch), ready, [][]byte{call(ch, 0, 0)}, nil}
		}),
		[]violation{
			{"file.open (70.10)", ready, [][]byte{call(1, 70, 10)}, nil},
			{"an unknown method during the handshake", greeted, [][]byte{call(0, 10, 12)}, nil},
			{"an unknown method within a content", ready, [][]byte{unroutable, call(1, 61, 10)}, nil},
		},
	)),
	violate("server-methods", slices.Concat(
		[]violation{
			{"basic.deliver", ready, [][]byte{call(1, 60, 60, "c", uint64(1), byte(0), "", "k")}, nil},
			{"basic.deliver with a content", ready, [][]byte{call(1, 60, 60, "c", uint64(1), byte(0), "", "k"), oneByte, body1}, nil},
			{"basic.return", ready, [][]byte{call(1, 60, 50, uint16(312), "NO_ROUTE", "", "k")}, nil},
			{"basic.return with a content", ready, [][]byte{call(1, 60, 50, uint16(312), "NO_ROUTE", "", "k"), noContent}, nil},
			{"basic.get-ok", ready, [][]byte{call(1, 60, 71, uint64(1), byte(0), "", "k", uint32(0))}, nil},
			{"basic.get-ok with a content", ready, [][]byte{call(1, 60, 71, uint64(1), byte(0), "", "k", uint32(0)), noContent}, nil},
			{"basic.get-empty", ready, [][]byte{call(1, 60, 72, "")}, nil},
			{"basic.qos-ok", ready, [][]byte{call(1, 60, 11)}, nil},
			{"basic.consume-ok", ready, [][]byte{call(1, 60, 21, "c")}, nil},
			{"basic.cancel-ok", ready, [][]byte{call(1, 60, 31, "c")}, nil},
			{"basic.recover-ok", ready, [][]byte{call(1, 60, 111)}, nil},
			{"queue.declare-ok", ready, [][]byte{call(1, 50, 11, "q", uint32(0), uint32(0))}, nil},
			{"queue.bind-ok", ready, [][]byte{call(1, 50, 21)}, nil},
			{"queue.purge-ok", ready, [][]byte{call(1, 50, 31, uint32(0))}, nil},
			{"queue.delete-ok", ready, [][]byte{call(1, 50, 41, uint32(0))}, nil},
			{"queue.unbind-ok", ready, [][]byte{call(1, 50, 51)}, nil},
			{"exchange.declare-ok", ready, [][]byte{call(1, 40, 11)}, nil},
			{"exchange.delete-ok", ready, [][]byte{call(1, 40, 21)}, nil},
			{"exchange.bind-ok", ready, [][]byte{call(1, 40, 31)}, nil},
			{"exchange.unbind-ok", ready, [][]byte{call(1, 40, 51)}, nil},
			{"confirm.select-ok", ready, [][]byte{call(1, 85, 11)}, nil},
			{"tx.select-ok", ready, [][]byte{call(1, 90, 11)}, nil},
			{"tx.commit-ok", ready, [][]byte{call(1, 90, 21)}, nil},
			{"tx.rollback-ok", ready, [][]byte{call(1, 90, 31)}, nil},
			{"access.request", ready, [][]byte{call(1, 30, 10, "/data", byte(31))}, nil},
			{"access.request-ok", ready, [][]byte{call(1, 30, 11, uint16(1))}, nil},
			{"channel.open-ok", ready, [][]byte{call(1, 20, 11, longstr(""))}, nil},
			{"channel.flow-ok", ready, [][]byte{call(1, 20, 21, byte(1))}, nil},
			{"channel.close-ok", ready, [][]byte{call(1, 20, 41)}, [][]byte{}},
			{"connection.start", ready, [][]byte{call(0, 10, 10, byte(0), byte(9), table(nil), longstr("PLAIN"), longstr("en_US"))}, nil},
			{"connection.tune", ready, [][]byte{call(0, 10, 30, uint16(0), uint32(0), uint16(0))}, nil},
			{"connection.open-ok", ready, [][]byte{call(0, 10, 41, "")}, nil},
			{"connection.close-ok", ready, [][]byte{call(0, 10, 51)}, nil},
			{"connection.secure", ready, [][]byte{call(0, 10, 20, longstr("x"))}, nil},
			{"connection.blocked", ready, [][]byte{call(0, 10, 60, "why")}, nil},
			{"connection.unblocked", ready, [][]byte{call(0, 10, 61)}, nil},
			{"connection.update-secret-ok", ready, [][]byte{call(0, 10, 71)}, nil},
		},
	)),
	violate("methods-in-the-wrong-place", []violation{
		{"channel.open twice", ready, [][]byte{call(1, 20, 10, "")}, nil},
		{"channel.open on channel 0", ready, [][]byte{call(0, 20, 10, "")}, nil},
		{"basic.qos on channel 0", ready, [][]byte{call(0, 60, 10, uint32(0), uint16(0), byte(0))}, nil},
		{"basic.publish on channel 0", ready, [][]byte{publish(0, "", "nobody", false)}, nil},
		{"a content header on channel 0", ready, [][]byte{contentHeader(0, 0, uint16(0))}, nil},
		{"a content body on channel 0", ready, [][]byte{frame(bodyFrame, 0, payload("x"))}, nil},
		{"start-ok on an open connection", ready, [][]byte{startOk("PLAIN", "\x00guest\x00guest", nil)}, nil},
		{"secure-ok on an open connection", ready, [][]byte{call(0, 10, 21, longstr("x"))}, nil},
		{"tune-ok on an open connection", ready, [][]byte{call(0, 10, 31, uint16(10), uint32(131072), uint16(0))}, nil},
		{"connection.open on an open connection", ready, [][]byte{call(0, 10, 40, "/", "", byte(0))}, nil},
		{"connection.open on channel 1", ready, [][]byte{call(1, 10, 40, "/", "", byte(0))}, nil},
		{"connection.close on channel 1", ready, [][]byte{call(1, 10, 50, uint16(200), "bye", uint16(0), uint16(0))}, nil},
		{"connection.close on channel 5 (not open)", ready, [][]byte{call(5, 10, 50, uint16(200), "bye", uint16(0), uint16(0))}, nil},
		{"basic.qos on channel 5 (not open)", ready, [][]byte{call(5, 60, 10, uint32(0), uint16(0), byte(0))}, nil},
		{"basic.publish on channel 5 (not open)", ready, [][]byte{publish(5, "", "nobody", false)}, nil},
		{"a message on channel 5 (not open)", ready, [][]byte{publish(5, "", "nobody", false), contentHeader(5, 0, uint16(0))}, nil},
		{"channel.close on channel 5 (not open)", ready, [][]byte{call(5, 20, 40, uint16(200), "bye", uint16(0), uint16(0))}, nil},
		{"channel.close-ok on channel 5 (not open)", ready, [][]byte{call(5, 20, 41)}, [][]byte{}},
		{"a content header on channel 5 (not open)", ready, [][]byte{contentHeader(5, 0, uint16(0))}, nil},
		{"a content body on channel 5 (not open)", ready, [][]byte{frame(bodyFrame, 5, payload("x"))}, nil},
		{"channel 65535", ready, [][]byte{call(65535, 20, 10, ""), call(65535, 60, 10, uint32(0), uint16(0), byte(0))}, nil},
		{"channel.flow off", ready, [][]byte{call(1, 20, 20, byte(0))}, nil},
		{"a method after channel.close", ready, [][]byte{call(1, 20, 40, uint16(200), "bye", uint16(0), uint16(0))}, [][]byte{call(1, 60, 10, uint32(0), uint16(0), byte(0))}},
		{"channel.open again after channel.close", ready, [][]byte{call(1, 20, 40, uint16(200), "bye", uint16(0), uint16(0))}, [][]byte{call(1, 20, 10, "")}},
		{"methods after connection.close", ready, [][]byte{closingFrame(), call(1, 60, 10, uint32(0), uint16(0), byte(0)), call(0, 10, 31, uint16(1), uint32(1), uint16(1))}, nil},
		{"an unknown frame after connection.close", ready, [][]byte{closingFrame(), frame(7, 1, nil), frame(7, 0, nil)}, nil},
		{"connection.close twice", ready, [][]byte{closingFrame(), closingFrame()}, nil},
	}),
	violate("frames-on-a-closed-channel", forEach([]struct {
		what string
		send [][]byte
	}{
		{"a method", [][]byte{call(1, 60, 10, uint32(0), uint16(0), byte(0))}},
		{"a message", [][]byte{unroutable, oneByte, body1}},
		{"channel.open", [][]byte{call(1, 20, 10, "")}},
		{"channel.close", [][]byte{call(1, 20, 40, uint16(200), "bye", uint16(0), uint16(0))}},
		{"channel.close-ok, then channel.open", [][]byte{call(1, 20, 41), call(1, 20, 10, "")}},
		{"channel.close-ok, then a method", [][]byte{call(1, 20, 41), call(1, 60, 10, uint32(0), uint16(0), byte(0))}},
		{"a content header", [][]byte{noContent}},
		{"a content body", [][]byte{body1}},
		{"a method within a content", [][]byte{unroutable, call(1, 60, 10, uint32(0), uint16(0), byte(0))}},
		{"channel.close-ok within a content", [][]byte{unroutable, call(1, 20, 41)}},
		{"a malformed method", [][]byte{call(1, 60, 10)}},
		{"an unknown method", [][]byte{call(1, 61, 10)}},
		{"an unknown frame", [][]byte{frame(7, 1, nil)}},
		{"a heartbeat", [][]byte{frame(heartbeatFrame, 1, nil)}},
	}, func(v struct {
		what string
		send [][]byte
	},
	) violation {
		return violation{v.what, ready, [][]byte{call(1, 60, 80, uint64(77), byte(0))}, v.send}
	})),
}
