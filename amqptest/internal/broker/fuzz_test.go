package broker

import (
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// The broker answers or hangs up whatever a client sends, and continues to serve other clients.
func FuzzConnection(f *testing.F) {
	frames := func(ms ...codec.Method) []byte {
		var b []byte
		for _, m := range ms {
			b = codec.AppendMethod(b, 1, m)
			if _, ok := m.(*codec.BasicPublish); ok {
				p := codec.Properties{Has: codec.HasPriority | codec.HasExpiration, Priority: 3, Expiration: "10"}
				b = codec.AppendContent(b, 1, p.Append(nil), []byte("body"), 131072)
			}
		}
		return b
	}
	f.Add(frames(&codec.QueueDeclare{Queue: "q"}, &codec.BasicPublish{Key: "q"}, &codec.BasicConsume{Queue: "q"}, &codec.BasicNack{Tag: 1, Requeue: true}))
	f.Add(frames(&codec.TxSelect{}, &codec.BasicPublish{Key: "q"}, &codec.TxCommit{}, &codec.BasicGet{Queue: "q"}, &codec.BasicReject{Tag: 1}))
	f.Add(frames(&codec.QueueDeclare{Queue: "d", Durable: true, Arguments: codec.Table{
		{Key: "x-queue-type", Value: "quorum"}, {Key: "x-dead-letter-exchange", Value: ""}, {Key: "x-delivery-limit", Value: int64(0)},
	}}, &codec.BasicPublish{Key: "d"}, &codec.BasicGet{Queue: "d"}, &codec.BasicReject{Tag: 1, Requeue: true}))
	f.Add(frames(&codec.ExchangeDeclare{Exchange: "x", Type: "topic"}, &codec.QueueBind{Queue: "q", Exchange: "x", Key: "#.a.#"}, &codec.BasicPublish{Exchange: "x", Key: "b.a"}))
	f.Add([]byte{1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := testConfig()
		b, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		r := rawClient(t, b)
		r.method(1, &codec.QueueDeclare{Queue: "q"})
		_, _ = r.nc.Write(data)
		_ = r.nc.(*end).CloseWrite()
		for {
			if _, err := r.reader.Next(); err != nil {
				break
			}
		}
		b.Advance(time.Hour)
		rawClient(t, b)
	})
}
