package amqptest

import (
	"bufio"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A Fake is as much of a broker as the examples need: it takes connections, channels and publishes, confirms each
// message, and closes a connection that asks for it.
type Fake struct {
	URL    string
	Stored atomic.Int64 // messages

	listener net.Listener
	wg       sync.WaitGroup
}

// NewFake starts it. Whoever does ends the connections, and then it.
func NewFake() *Fake {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	f := &Fake{URL: "amqp://guest:guest@" + l.Addr().String() + "/", listener: l}
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.serve(c) })
		}
	})
	return f
}

// Close ends it when its connections have ended.
func (f *Fake) Close() {
	_ = f.listener.Close()
	f.wg.Wait()
}

func (f *Fake) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	say := func(frame Frame) { _, _ = c.Write(wireOf(frame)) }
	r := bufio.NewReader(c)
	_, _ = r.Discard(len(protocolHeader))
	say(Method(0, 10, 10, uint8(0), uint8(9), []byte(nil), []byte("PLAIN"), []byte("en_US")))
	t := tracer{from: FromClient, channels: &channels{byNumber: map[uint16]*channel{}}, contents: map[uint16]*content{}}
	for {
		b, err := r.Peek(frameHeader)
		if err != nil {
			return
		}
		_, size, _ := peekFrame(b)
		b = make([]byte, size)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		frame, _, _ := nextFrame(b)
		for _, e := range t.frame(frame, size) {
			if e.Kind == Published {
				f.Stored.Add(1)
				say(BasicAck(e.Channel, e.Tag, false))
			}
		}
		switch class, method, _ := frame.Method(); [2]uint16{class, method} {
		case [2]uint16{10, 11}: // start-ok: tune
			say(Method(0, 10, 30, uint16(2047), uint32(131072), uint16(10)))
		case [2]uint16{10, 40}: // open: open-ok
			say(Method(0, 10, 41, ""))
		case [2]uint16{10, 50}: // close: close-ok
			say(Method(0, 10, 51))
			return
		case [2]uint16{20, 10}: // channel.open: open-ok
			say(Method(frame.Channel, 20, 11, []byte(nil)))
		case [2]uint16{85, 10}: // confirm.select: select-ok
			say(Method(frame.Channel, 85, 11))
		}
	}
}
