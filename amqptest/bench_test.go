package amqptest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
)

// BenchmarkConfirmedPublish publishes through the proxy and waits for the confirm.
func BenchmarkConfirmedPublish(b *testing.B) {
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = broker.Close() }()
	message := make([][]byte, 256)
	for i := range message {
		message[i] = wireOf(publish(1, fmt.Sprintf("01234567890123456789012%03d", i), string(make([]byte, 1024)))...)
	}
	go func() {
		c, err := broker.Accept()
		if err != nil {
			return
		}
		r := bufio.NewReaderSize(c, 64<<10)
		_, _ = io.CopyN(io.Discard, r, int64(len(wireOf(MethodFrame(1, 85, 10, false)))))
		for tag := uint64(1); ; tag++ {
			if _, err := io.CopyN(io.Discard, r, int64(len(message[0]))); err != nil {
				return
			}
			if tag%16 == 0 {
				_, _ = c.Write(wireOf(BasicAck(1, tag, true)))
			}
		}
	}()
	p := StartProxy(b, "amqp://"+broker.Addr().String())
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write(wireOf(MethodFrame(1, 85, 10, false)))
	go func() {
		for i := range b.N + 16 {
			_, _ = c.Write(message[i%256])
		}
	}()
	b.ReportAllocs()
	b.ResetTimer()
	acks := bufio.NewReader(c)
	for n := 0; n < b.N; n += 16 {
		if _, err := io.CopyN(io.Discard, acks, int64(len(wireOf(BasicAck(1, 1, true))))); err != nil {
			b.Fatal(err)
		}
	}
}
