package broker

import (
	"net"
	"regexp"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

var consumeAll = codec.BasicConsume{Queue: "q", Tag: "c", NoAck: true}

// A rawConn sends and receives frames.
type rawConn struct {
	t      *testing.T
	nc     net.Conn
	reader *codec.Reader
}

// rawClient connects and opens channel 1.
func rawClient(t *testing.T, b *Broker) *rawConn { t.Helper(); return rawClientWith(t, b, 0) }

func rawClientWith(t *testing.T, b *Broker, heartbeat uint16) *rawConn {
	t.Helper()
	nc, err := b.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * soon))
	r := &rawConn{t, nc, codec.NewReader(nc, 131072)}
	r.write([]byte(codec.ProtocolHeader))
	r.expect(new(codec.ConnectionStart))
	r.method(0, &codec.ConnectionStartOk{Mechanism: "PLAIN", Response: []byte("\x00guest\x00guest"), Locale: "en_US"})
	r.expect(new(codec.ConnectionTune))
	r.method(0, &codec.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072, Heartbeat: heartbeat})
	r.method(0, &codec.ConnectionOpen{VHost: "/"})
	r.expect(new(codec.ConnectionOpenOk))
	r.method(1, new(codec.ChannelOpen))
	r.expect(new(codec.ChannelOpenOk))
	return r
}

func (r *rawConn) write(b []byte) {
	r.t.Helper()
	if _, err := r.nc.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rawConn) method(channel uint16, m codec.Method) {
	r.t.Helper()
	r.write(codec.AppendMethod(nil, channel, m))
}

func (r *rawConn) read() codec.Frame {
	r.t.Helper()
	f, err := r.reader.Next()
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// expect reads a method of the same kind and returns it.
func (r *rawConn) expect(want codec.Method) codec.Method {
	r.t.Helper()
	_, m, err := codec.Parse(r.read().Payload)
	if err != nil || m == nil || m.ID() != want.ID() {
		r.t.Fatalf("got %T %+v %v, want %T", m, m, err, want)
	}
	return m
}

func TestProtocolErrorsMatchRabbitMQ(t *testing.T) {
	frame := func(kind byte, channel uint16, payload ...byte) []byte {
		return codec.AppendFrame(nil, kind, channel, payload)
	}
	publish := codec.AppendMethod(nil, 1, &codec.BasicPublish{Key: "q"})
	header := func(size byte, properties ...byte) []byte {
		return frame(codec.FrameHeader, 1, append([]byte{0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, size}, properties...)...)
	}
	body := frame(codec.FrameBody, 1, 'x')
	for name, c := range map[string]struct {
		send [][]byte
		code uint16
		text string
	}{
		"type":           {[][]byte{frame(7, 1, 'h', 'i')}, 501, `FRAME_ERROR - type 7, all octets = <<"hi">>: unknown_frame`},
		"end":            {[][]byte{{1, 0, 0, 0, 0, 0, 1, 'x', 'y'}}, 501, `FRAME_ERROR - type 1, all octets = <<"x">>: {invalid_frame_end_marker,121}`},
		"size":           {[][]byte{{1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF}}, 501, "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,4294967295,131064}"},
		"heartbeat":      {[][]byte{frame(8, 1)}, 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>"},
		"body, no one":   {[][]byte{body}, 505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead"},
		"method, header": {[][]byte{publish, publish}, 505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"},
		"header, body":   {[][]byte{publish, header(1, 0, 0), publish}, 505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead"},
		"long":           {[][]byte{publish, header(0, 0, 0), publish, header(1, 0, 0), frame(3, 1, 'x', 'y')}, 501, "FRAME_ERROR - content body frame exceeds remaining content size"},
		"properties":     {[][]byte{publish, header(0, 0xFF, 0xFF)}, 541, "INTERNAL_ERROR"},
		"arguments":      {[][]byte{frame(1, 1, 0, 60, 0, 70)}, 501, "FRAME_ERROR - cannot decode <<>>"},
		"channel":        {[][]byte{codec.AppendMethod(nil, 2, &codec.BasicQos{})}, 504, "CHANNEL_ERROR - expected 'channel.open'"},
		"twice":          {[][]byte{codec.AppendMethod(nil, 1, &codec.ChannelOpen{})}, 504, "CHANNEL_ERROR - second 'channel.open' seen"},
		"state":          {[][]byte{codec.AppendMethod(nil, 0, &codec.ConnectionOpen{})}, 504, "CHANNEL_ERROR - unexpected method in connection state running"},
		"answer":         {[][]byte{codec.AppendMethod(nil, 1, &codec.BasicQosOk{})}, 503, "COMMAND_INVALID - unimplemented method"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			r := rawClient(t, s.Broker)
			for _, b := range c.send {
				r.write(b)
			}
			m := r.expect(new(codec.ConnectionClose)).(*codec.ConnectionClose)
			if m.Code != c.code || m.Text != c.text {
				t.Errorf("%d %s, want %d %s", m.Code, m.Text, c.code, c.text)
			}
			_, _ = r.nc.Write(codec.AppendMethod(nil, 0, new(codec.ConnectionCloseOk)))
		})
	}
}

func TestOtherProtocolIsAnsweredWithAMQP10(t *testing.T) {
	s := newStage(t)
	nc, err := s.Dial()
	s.must(err)
	_, err = nc.Write([]byte("GET / HT"))
	s.must(err)
	if h, err := codec.NewReader(nc, 0).Header(); h != "AMQP\x03\x01\x00\x00" || err != nil {
		t.Errorf("%q %v", h, err)
	}
	s.must(nc.Close())
}

// amqp091-go always sets a consumer tag.
func TestConsumerWithoutTagGetsAGeneratedTag(t *testing.T) {
	s := newStage(t)
	s.classic("q", nil)
	r := rawClient(t, s.Broker)
	r.method(1, &codec.BasicConsume{Queue: "q"})
	first := r.expect(new(codec.BasicConsumeOk)).(*codec.BasicConsumeOk).Tag
	r.method(1, &codec.BasicConsume{Queue: "q"})
	second := r.expect(new(codec.BasicConsumeOk)).(*codec.BasicConsumeOk).Tag
	if tag := regexp.MustCompile(`^amq\.ctag-[\w-]{22}$`); !tag.MatchString(first) || !tag.MatchString(second) || first == second {
		t.Errorf("tags %q and %q", first, second)
	}
	s.send("q", "m")
	if d := r.expect(new(codec.BasicDeliver)).(*codec.BasicDeliver); d.Consumer != first {
		t.Errorf("delivered to %q, want %q", d.Consumer, first)
	}
}
