package amqptest

import (
	"bytes"
	"errors"
	"testing"
)

func TestMethodFrameEncodesArgumentsByType(t *testing.T) {
	f := MethodFrame(7, 60, 80, true, uint8(2), uint16(3), uint32(4), uint64(5), "six", []byte("seven"), []byte(nil))
	want := "\x01\x00\x07\x00\x00\x00\x25" + "\x00\x3c\x00\x50" + "\x01" + "\x02" + "\x00\x03" + "\x00\x00\x00\x04" +
		"\x00\x00\x00\x00\x00\x00\x00\x05" + "\x03six" + "\x00\x00\x00\x05seven" + "\x00\x00\x00\x00" + "\xce"
	if got := string(wireOf(f)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if class, method, ok := f.Method(); class != 60 || method != 80 || !ok {
		t.Errorf("Method = %d, %d, %v", class, method, ok)
	}
	a := f.arguments()
	if a.octet() != 1 || a.octet() != 2 || a.short() != 3 || a.long() != 4 || a.longlong() != 5 || a.shortString() != "six" ||
		string(a.longString()) != "seven" || len(a.longString()) != 0 || len(a.rest) != 0 || a.bad {
		t.Errorf("the arguments read back differ; left: %+v", a)
	}
	if a.octet() != 0 || !a.bad || a.longlong() != 0 || a.shortString() != "" {
		t.Error("there is more after the end")
	}
	for _, bad := range []any{1, string(make([]byte, 256))} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("an argument of type %T was encoded", bad)
				}
			}()
			MethodFrame(1, 2, 3, bad)
		}()
	}
}

func TestLookupSkipsValuesOfEveryType(t *testing.T) {
	var table []byte
	for kind, size := range map[byte]int{'t': 1, 'b': 1, 'B': 1, 's': 2, 'u': 2, 'I': 4, 'i': 4, 'f': 4, 'D': 5, 'l': 8, 'L': 8, 'd': 8, 'T': 8, 'V': 0} {
		table = append(append(table, "\x01x"...), kind)
		table = append(table, make([]byte, size)...)
	}
	for _, kind := range []byte("SFAx") {
		table = append(append(table, "\x01x"...), kind)
		table = append(table, "\x00\x00\x00\x03\x01xt"...)
	}
	if got := lookup(append(table, "\x04nameS\x00\x00\x00\x02me"...), "name"); got != "me" {
		t.Errorf("found %q", got)
	}
	for _, none := range []string{"", "\x04nameI\x00\x00\x00\x01", "\x01x?\x04nameS\x00\x00\x00\x02me", "\x04nameS\x00\x00\x00\x09me"} {
		if got := lookup([]byte(none), "name"); got != "" {
			t.Errorf("found %q in %q", got, none)
		}
	}
}

func TestMatchers(t *testing.T) {
	ack, heartbeat, body := BasicAck(1, 2, false), Heartbeat(), Frame{Type: FrameBody, Payload: BasicAck(1, 2, false).Payload}
	if !IsMethod(60, 80)(ack) || IsMethod(60, 120)(ack) || IsMethod(60, 80)(body) || IsMethod(0, 0)(heartbeat) {
		t.Error("IsMethod")
	}
	if !IsConfirm(ack) || !IsConfirm(BasicNack(1, 2, false, false)) || IsConfirm(body) || IsConfirm(heartbeat) || IsConfirm(BasicCancel(1, "")) {
		t.Error("IsConfirm")
	}
}

func TestBasicDeliverFitsTheSmallestFrames(t *testing.T) {
	size := 0
	for _, f := range BasicDeliver(1, "c", 1, Message{Body: make([]byte, 10_000)})[2:] {
		if n := len(wireOf(f)); n > 4096 {
			t.Errorf("a frame of %d bytes", n)
		}
		size += len(f.Payload)
	}
	if size != 10_000 || len(BasicDeliver(1, "c", 1, Message{})) != 2 {
		t.Errorf("%d bytes of the body", size)
	}
}

// Parsing must not panic or read beyond the input, and parsed frames must encode to the same bytes.
func FuzzFrame(f *testing.F) {
	f.Add(wireOf(Heartbeat(), startOk("x"), ConnectionBlocked("why")))
	f.Add(wireOf(publish(1, "id", "body")...))
	f.Add([]byte{FrameHeader, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Add([]byte{FrameHeartbeat, 0, 0, 0, 0, 0, 0, 'x'}) // wrong end octet
	f.Fuzz(func(t *testing.T, b []byte) {
		channels := &channels{byNumber: map[uint16]*channel{}}
		client := tracer{from: FromClient, channels: channels, contents: map[uint16]*content{}}
		broker := tracer{from: FromBroker, channels: channels, contents: map[uint16]*content{}}
		for len(b) > 0 {
			frame, size, err := nextFrame(b)
			if err != nil {
				if !errors.Is(err, errFrame) {
					t.Error(err)
				}
				return
			}
			if size == 0 || int64(len(b)) < size {
				return
			}
			if !bytes.Equal(wireOf(frame), b[:size]) {
				t.Errorf("%q became %q", b[:size], wireOf(frame))
			}
			client.frame(frame, size)
			broker.frame(frame, size)
			b = b[size:]
		}
	})
}

// A scanner forwards every stream unchanged, however it is split, and buffers little of it.
func FuzzScan(f *testing.F) {
	f.Add(append([]byte(protocolHeader), wireOf(append(publish(1, "id", "body"), startOk("x"))...)...), uint8(1), true)
	f.Add(wireOf(body(1, 1, 100_000)), uint8(200), false)
	f.Add([]byte{FrameMethod, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF, 1, 2, 3}, uint8(3), true)
	f.Fuzz(func(t *testing.T, stream []byte, step uint8, look bool) {
		p := newPump(&link{proxy: &Proxy{changed: make(chan struct{})}}, FromClient, nil, nil, &channels{byNumber: map[uint16]*channel{}})
		if look {
			p.plan.points = []*trigger{{match: func(Frame) bool { return false }}}
		}
		var got []byte
		scan := func() {
			for learned := true; learned; learned = p.stale() {
				p.version = p.link.proxy.version.Load()
				p.scan()
			}
			for _, piece := range p.out.pieces {
				got = append(got, piece.data...)
			}
			p.out.pieces = nil
		}
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), 1+int(step))
			for part := bytes.NewReader(rest[:n]); part.Len() > 0; scan() {
				if err := p.read(part); err != nil {
					t.Fatal(err)
				}
			}
			rest = rest[n:]
		}
		p.eof, p.raw = fin, true
		scan()
		if !bytes.Equal(got, stream) {
			t.Errorf("%.100q (%d bytes) became %.100q (%d)", stream, len(stream), got, len(got))
		}
		if len(p.buf) > max(64<<10, 2*len(stream)) {
			t.Errorf("a buffer of %d for a stream of %d bytes", len(p.buf), len(stream))
		}
	})
}
