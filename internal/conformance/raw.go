package conformance

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// The frame types of AMQP 0-9-1.
const (
	methodFrame    byte = 1
	headerFrame    byte = 2
	bodyFrame      byte = 3
	heartbeatFrame byte = 8
)

const protocolHeader = "AMQP\x00\x00\x09\x01"

// A longstr argument of call is encoded as a long string. A table argument holds the encoded fields of a table.
type (
	longstr string
	table   []byte
)

// frame encodes a frame.
func frame(kind byte, channel uint16, payload []byte) []byte {
	b := []byte{kind}
	b = binary.BigEndian.AppendUint16(b, channel)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(append(b, payload...), 0xCE)
}

// call encodes a method frame. A string is encoded as a short string. A []byte is sent unchanged.
func call(channel, class, method uint16, arguments ...any) []byte {
	b := binary.BigEndian.AppendUint16(nil, class)
	return frame(methodFrame, channel, pack(binary.BigEndian.AppendUint16(b, method), arguments...))
}

// pack appends the arguments of a method, or the properties of a message.
func pack(b []byte, arguments ...any) []byte {
	be := binary.BigEndian
	for _, a := range arguments {
		switch a := a.(type) {
		case byte:
			b = append(b, a)
		case uint16:
			b = be.AppendUint16(b, a)
		case uint32:
			b = be.AppendUint32(b, a)
		case uint64:
			b = be.AppendUint64(b, a)
		case string:
			b = append(append(b, byte(len(a))), a...)
		case longstr:
			b = append(be.AppendUint32(b, uint32(len(a))), a...)
		case table:
			b = append(be.AppendUint32(b, uint32(len(a))), a...)
		case []byte:
			b = append(b, a...)
		default:
			panic(fmt.Sprintf("%T has no AMQP encoding", a))
		}
	}
	return b
}

// contentHeader encodes a content header of the class basic. The first property must be the flags.
func contentHeader(channel uint16, size uint64, properties ...any) []byte {
	return frame(headerFrame, channel, pack(pack(nil, uint16(60), uint16(0), size), properties...))
}

// publish encodes basic.publish.
func publish(channel uint16, exchange, key string, mandatory bool) []byte {
	bits := byte(0)
	if mandatory {
		bits = 1
	}
	return call(channel, 60, 40, uint16(0), exchange, key, bits)
}

// closingFrame encodes connection.close.
func closingFrame() []byte { return call(0, 10, 50, uint16(200), "bye", uint16(0), uint16(0)) }

// handshakeSteps returns the client's side of a handshake: protocol header, start-ok, tune-ok, open, channel.open.
func handshakeSteps(u *url.URL, properties table) [][]byte {
	password, _ := u.User.Password()
	return [][]byte{
		[]byte(protocolHeader),
		startOk("PLAIN", "\x00"+u.User.Username()+"\x00"+password, properties),
		call(0, 10, 31, uint16(2047), uint32(131072), uint16(0)),
		call(0, 10, 40, vhostOf(u), "", byte(0)),
		call(1, 20, 10, ""),
	}
}

func startOk(mechanism, response string, properties table) []byte {
	return call(0, 10, 11, properties, mechanism, longstr(response), "en_US")
}

// capability returns client properties with one capability.
func capability(name string) table {
	return table(key("capabilities") + sized("F", key(name)+"t\x01"))
}

func vhostOf(u *url.URL) string {
	if v := strings.TrimPrefix(u.Path, "/"); v != "" {
		return v
	}
	return "/"
}

// handshakeAnswers are the broker's answers to handshakeSteps. tune-ok has no answer.
var handshakeAnswers = []string{"connection.start", "connection.tune", "connection.open-ok", "channel.open-ok"}

// A rawConn is a connection that sends and reads frames. It does not send heartbeats.
type rawConn struct {
	s    *Script
	nc   net.Conn
	r    *bufio.Reader
	url  *url.URL
	ends string // set when the connection is closed: the way it was closed
}

// connect opens a connection without a handshake. The connection is closed when the test ends.
func (s *Script) connect() (*rawConn, error) {
	u, err := url.Parse(s.broker.URL)
	if err != nil {
		return nil, err
	}
	nc, err := (&net.Dialer{Timeout: eventTimeout}).DialContext(s.ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	s.tb.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * eventTimeout)) // for the whole scenario
	return &rawConn{s: s, nc: nc, r: bufio.NewReader(nc), url: u}, nil
}

// raw opens a connection and channel 1.
func (s *Script) raw() *rawConn { s.tb.Helper(); return s.rawWith(nil) }

// rawWith is raw with client properties.
func (s *Script) rawWith(properties table) *rawConn {
	s.tb.Helper()
	r, err := s.connect()
	s.Must(err)
	r.write(handshakeSteps(r.url, properties)...)
	for _, want := range handshakeAnswers {
		r.await(want)
	}
	return r
}

// write sends frames in one write. It ignores errors, because the broker may have closed the connection.
func (r *rawConn) write(frames ...[]byte) {
	_, _ = r.nc.Write([]byte(strings.Join(asStrings(frames), "")))
}

func asStrings(frames [][]byte) []string {
	list := make([]string, len(frames))
	for i, f := range frames {
		list[i] = string(f)
	}
	return list
}

// await reads frames until one with the given name.
func (r *rawConn) await(name string) {
	r.s.tb.Helper()
	for {
		f := r.next()
		if f.name == name {
			return
		}
		if f.name == "" || f.name == "connection.close" {
			r.s.tb.Fatalf("got %v%s, want %s; transcript so far:\n%s", f, r.ends, name, r.s.lines.String())
		}
	}
}

// A received is a method frame, a content header or a content body. Its name is empty if the connection was closed.
type received struct {
	channel uint16
	name    string
	fields  *fields // the arguments of a method, the properties of a content header, or the whole body
}

// next reads the next frame. It skips heartbeats.
func (r *rawConn) next() received {
	for {
		var head [7]byte
		if _, err := io.ReadFull(r.r, head[:]); err != nil {
			r.ends = "hangs up"
			if errors.Is(err, os.ErrDeadlineExceeded) {
				r.ends = "stays open"
			}
			return received{}
		}
		if string(head[:4]) == "AMQP" {
			var rest [1]byte
			_, _ = io.ReadFull(r.r, rest[:])
			return received{name: fmt.Sprintf("protocol header %q", string(head[:])+string(rest[:]))}
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
		if _, err := io.ReadFull(r.r, payload); err != nil {
			r.ends = "hangs up within a frame"
			return received{}
		}
		f := received{channel: binary.BigEndian.Uint16(head[1:]), fields: &fields{b: payload[:len(payload)-1]}}
		switch head[0] {
		case heartbeatFrame:
			continue
		case headerFrame:
			f.name = "header"
			f.fields.take(12)
		case bodyFrame:
			f.name = "body"
		case methodFrame:
			id := binary.BigEndian.Uint32(f.fields.take(4))
			if f.name = methodNames[id]; f.name == "" {
				f.name = fmt.Sprintf("method %d.%d", id>>16, id&0xFFFF)
			}
		default:
			f.name = fmt.Sprintf("frame of type %d", head[0])
		}
		return f
	}
}

// String renders a frame with the fields that scenarios compare.
func (f received) String() string {
	in := &fields{b: f.fields.bytes()}
	switch f.name {
	case "connection.close", "channel.close":
		code, text := in.u16(), in.short()
		return fmt.Sprintf("%s %d %s (%d.%d)", f.name, code, text, in.u16(), in.u16())
	case "basic.ack", "basic.nack":
		return fmt.Sprintf("%s %d multiple=%v", f.name, in.u64(), in.u8()&1 == 1)
	case "basic.cancel", "basic.cancel-ok", "basic.consume-ok":
		return f.name + " " + in.short()
	case "queue.delete-ok", "queue.purge-ok":
		return fmt.Sprintf("%s %d", f.name, in.u32())
	case "basic.return":
		code, text := in.u16(), in.short()
		return fmt.Sprintf("%s %d %s, exchange %q, key %q", f.name, code, text, in.short(), in.short())
	case "basic.deliver":
		consumer, tag := in.short(), in.u64()
		return fmt.Sprintf("%s %d to %s", f.name, tag, consumer)
	case "header":
		return "header " + in.properties()
	case "body":
		return fmt.Sprintf("body %q", in.b)
	}
	return f.name
}

var methodNames = map[uint32]string{
	10<<16 | 10: "connection.start", 10<<16 | 20: "connection.secure", 10<<16 | 30: "connection.tune", 10<<16 | 41: "connection.open-ok",
	10<<16 | 50: "connection.close", 10<<16 | 51: "connection.close-ok", 10<<16 | 60: "connection.blocked",
	10<<16 | 71: "connection.update-secret-ok",
	20<<16 | 11: "channel.open-ok", 20<<16 | 20: "channel.flow", 20<<16 | 21: "channel.flow-ok", 20<<16 | 40: "channel.close",
	20<<16 | 41: "channel.close-ok", 30<<16 | 11: "access.request-ok",
	40<<16 | 11: "exchange.declare-ok", 40<<16 | 21: "exchange.delete-ok", 40<<16 | 31: "exchange.bind-ok", 40<<16 | 51: "exchange.unbind-ok",
	50<<16 | 11: "queue.declare-ok", 50<<16 | 21: "queue.bind-ok", 50<<16 | 31: "queue.purge-ok", 50<<16 | 41: "queue.delete-ok",
	50<<16 | 51: "queue.unbind-ok",
	60<<16 | 11: "basic.qos-ok", 60<<16 | 21: "basic.consume-ok", 60<<16 | 30: "basic.cancel", 60<<16 | 31: "basic.cancel-ok",
	60<<16 | 50: "basic.return", 60<<16 | 60: "basic.deliver", 60<<16 | 71: "basic.get-ok", 60<<16 | 72: "basic.get-empty",
	60<<16 | 80: "basic.ack", 60<<16 | 111: "basic.recover-ok", 60<<16 | 120: "basic.nack",
	85<<16 | 11: "confirm.select-ok", 90<<16 | 11: "tx.select-ok", 90<<16 | 21: "tx.commit-ok", 90<<16 | 31: "tx.rollback-ok",
}
