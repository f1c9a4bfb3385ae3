package conformance

import (
	"fmt"
	"slices"
	"strings"
)

var handshakeViolations = []Scenario{
	violate("protocol-headers", append(forEach([]string{
		"AMQP\x00\x00\x09\x00", "AMQP\x00\x00\x0a\x00", "AMQP\x00\x00\x08\x00", "AMQP\x01\x01\x08\x00",
		"AMQP\x00\x01\x00\x00", "AMQP\x02\x01\x00\x00", "AMQP\x00\x00\x09\x02", "amqp\x00\x00\x09\x01", "GET / HTTP/1.1\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x08\x00\x00\x00\x00\x00\x00\xce",
	}, func(h string) violation {
		return violation{fmt.Sprintf("%q", h), connected, [][]byte{payload(h)}, nil}
	}), violation{"that of AMQP 0-9", connected, slices.Concat([][]byte{payload("AMQP\x01\x01\x00\x09")}, loginAsGuest, afterLogin), nil})),
	violate("handshakes-out-of-order", []violation{
		{"a heartbeat before start-ok", greeted, [][]byte{frame(heartbeatFrame, 0, nil)}, nil},
		{"a heartbeat before tune-ok", loggedIn, [][]byte{frame(heartbeatFrame, 0, nil)}, nil},
		{"a heartbeat before open", tuned, [][]byte{frame(heartbeatFrame, 0, nil)}, nil},
		{"a heartbeat with a payload before start-ok", greeted, [][]byte{frame(heartbeatFrame, 0, payload("x"))}, nil},
		{"a heartbeat with a payload before open", tuned, [][]byte{frame(heartbeatFrame, 0, payload("x"))}, nil},
		{"tune-ok before start-ok", greeted, [][]byte{call(0, 10, 31, uint16(2047), uint32(131072), uint16(0))}, nil},
		{"connection.open before start-ok", greeted, [][]byte{call(0, 10, 40, "/", "", byte(0))}, nil},
		{"secure-ok before start-ok", greeted, [][]byte{call(0, 10, 21, longstr("x"))}, nil},
		{"connection.close before start-ok", greeted, [][]byte{closingFrame()}, nil},
		{"connection.close-ok before start-ok", greeted, [][]byte{call(0, 10, 51)}, nil},
		{"channel.open before start-ok", greeted, [][]byte{call(1, 20, 10, "")}, nil},
		{"channel.open on channel 0 before start-ok", greeted, [][]byte{call(0, 20, 10, "")}, nil},
		{"a body before start-ok", greeted, [][]byte{frame(bodyFrame, 0, payload("x"))}, nil},
		{"an unknown frame before start-ok", greeted, [][]byte{frame(7, 0, payload("x"))}, nil},
		{"start-ok twice", loggedIn, [][]byte{startOk("PLAIN", "\x00guest\x00guest", nil)}, nil},
		{"secure-ok before tune-ok", loggedIn, [][]byte{call(0, 10, 21, longstr("x"))}, nil},
		{"connection.open before tune-ok", loggedIn, [][]byte{call(0, 10, 40, "/", "", byte(0))}, nil},
		{"connection.close before tune-ok", loggedIn, [][]byte{closingFrame()}, nil},
		{"channel.open before tune-ok", loggedIn, [][]byte{call(1, 20, 10, "")}, nil},
		{"a malformed method before tune-ok", loggedIn, [][]byte{call(0, 10, 31)}, nil},
		{"tune-ok twice", tuned, [][]byte{call(0, 10, 31, uint16(2047), uint32(131072), uint16(0))}, nil},
		{"start-ok before open", tuned, [][]byte{startOk("PLAIN", "\x00guest\x00guest", nil)}, nil},
		{"connection.close before open", tuned, [][]byte{closingFrame()}, nil},
		{"channel.open before open", tuned, [][]byte{call(1, 20, 10, "")}, nil},
		{"basic.publish on channel 0 before open", tuned, [][]byte{publish(0, "", "k", false)}, nil},
		{"a body before open", tuned, [][]byte{frame(bodyFrame, 0, payload("x"))}, nil},
		{"an unknown frame before open", tuned, [][]byte{frame(7, 0, payload("x"))}, nil},
		{"a malformed method before open", tuned, [][]byte{call(0, 10, 40)}, nil},
		{"connection.open with a name that is not UTF-8", tuned, [][]byte{call(0, 10, 40, "\xff", "", byte(0))}, nil},
		{"connection.open of no virtual host", tuned, [][]byte{call(0, 10, 40, "", "", byte(0))}, nil},
		{"connection.open of a missing virtual host", tuned, [][]byte{call(0, 10, 40, "missing", "", byte(0))}, nil},
		{"connection.open with reserved bits", tuned, [][]byte{call(0, 10, 40, "missing", "capabilities", byte(0xFF))}, nil},
		{"connection.open twice", opened, [][]byte{call(0, 10, 40, "/", "", byte(0))}, nil},
	}),
	violate("invalid-tuning", slices.Concat(
		forEach([]uint32{1, 4096, 8191, 8192, 131073, 1<<32 - 1, 0}, func(n uint32) violation {
			return violation{fmt.Sprintf("frame-max %d", n), loggedIn, [][]byte{call(0, 10, 31, uint16(2047), n, uint16(0)), openFrame, channelFrame, closingFrame()}, nil}
		}),
		forEach([]uint16{1, 2048, 65535, 0}, func(n uint16) violation {
			return violation{fmt.Sprintf("channel-max %d", n), loggedIn, [][]byte{call(0, 10, 31, n, uint32(131072), uint16(0)), openFrame, channelFrame, closingFrame()}, nil}
		}),
		[]violation{
			{"both", loggedIn, [][]byte{call(0, 10, 31, uint16(0), uint32(1), uint16(0))}, nil},
			{"heartbeat 65535", loggedIn, [][]byte{call(0, 10, 31, uint16(2047), uint32(131072), uint16(65535)), openFrame, channelFrame, closingFrame()}, nil},
			{"a second channel of one", loggedIn, [][]byte{call(0, 10, 31, uint16(1), uint32(131072), uint16(0)), openFrame, channelFrame, call(2, 20, 10, "")}, nil},
			{"channel 7 of one", loggedIn, [][]byte{call(0, 10, 31, uint16(1), uint32(131072), uint16(0)), openFrame, call(7, 20, 10, ""), closingFrame()}, nil},
			{"a frame of 8193 of 8192 bytes", loggedIn, [][]byte{call(0, 10, 31, uint16(1), uint32(8192), uint16(0)), openFrame, channelFrame, frame(bodyFrame, 1, make([]byte, 8193))}, nil},
		},
	)),
	violate("invalid-logins", []violation{
		loginWith("an unknown mechanism", startOk("NONE", "", nil)),
		loginWith("a mechanism in small letters", startOk("plain", "\x00guest\x00guest", nil)),
		loginWith("an empty mechanism", startOk("", "\x00guest\x00guest", nil)),
		loginWith("EXTERNAL", startOk("EXTERNAL", "", nil)),
		loginWith("PLAIN without a response", startOk("PLAIN", "", nil)),
		loginWith("PLAIN with two parts", startOk("PLAIN", "guest\x00guest", nil)),
		loginWith("PLAIN with four parts", startOk("PLAIN", "\x00guest\x00guest\x00", nil)),
		loginWith("PLAIN with an identity", startOk("PLAIN", "other\x00guest\x00guest", nil)),
		{"PLAIN with a wrong password", greeted, [][]byte{startOk("PLAIN", "\x00guest\x00wrong", nil)}, [][]byte{}},
		loginWith("PLAIN with a wrong password, to a client with authentication_failure_close", startOk("PLAIN", "\x00guest\x00wrong", failureCloseCapability)),
		loginWith("PLAIN with a malformed response, to a client with authentication_failure_close", startOk("PLAIN", "guest", failureCloseCapability)),
		loginWith("an unknown mechanism, to a client with authentication_failure_close", startOk("NONE", "", failureCloseCapability)),
		loginWith("AMQPLAIN without a response", startOk("AMQPLAIN", "", nil)),
		loginWith("AMQPLAIN without a password", startOk("AMQPLAIN", "\x05LOGINS\x00\x00\x00\x05guest", nil)),
		loginWith("AMQPLAIN with a malformed table", startOk("AMQPLAIN", "\x05LOGIN", nil)),
		loginWith("malformed properties", startOk("PLAIN", "\x00guest\x00guest", table("\x01kZ"))),
		loginWith("properties of 8 KiB", startOk("PLAIN", "\x00guest\x00guest", largeProperties(8<<10))),
		loginWith("start-ok of 8192 bytes, the frame and 8 more", startOk("PLAIN", "\x00guest\x00guest", largeProperties(8192-42))),
		loginWith("start-ok of one byte more", startOk("PLAIN", "\x00guest\x00guest", largeProperties(8192-41))),
		loginWith("properties of 128 KiB", startOk("PLAIN", "\x00guest\x00guest", largeProperties(128<<10))),
		loginWith("capabilities of another type", startOk("PLAIN", "\x00guest\x00guest", table("\x0ccapabilitiest\x01"))),
		loginWith("a locale that is not known", call(0, 10, 11, table(nil), "PLAIN", longstr("\x00guest\x00guest"), "xx_XX")),
	}),
}

var loginAsGuest = [][]byte{startOk("PLAIN", "\x00guest\x00guest", nil)}

// The frames of a client after its login. afterLogin opens channel 1, then closes the connection.
var (
	tuneFrame    = call(0, 10, 31, uint16(2047), uint32(131072), uint16(0))
	openFrame    = call(0, 10, 40, "/", "", byte(0))
	channelFrame = call(1, 20, 10, "")
	afterLogin   = [][]byte{tuneFrame, openFrame, channelFrame, closingFrame()}
)

func loginWith(what string, startOk []byte) violation {
	return violation{what, greeted, append([][]byte{startOk}, afterLogin...), nil}
}

// failureCloseCapability are client properties that request connection.close after a refused login.
var failureCloseCapability = capability("authentication_failure_close")

func largeProperties(n int) table {
	return table(pack(payload("\x01kS"), longstr(strings.Repeat("p", n))))
}
