package conformance

import (
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Scenarios about the limits of messages, headers, frames and channels, and about heartbeats.
var sizes = []Scenario{
	{"largest-message", func(s *Script) {
		const largest = 16 << 20
		ch := s.Channel()
		s.Must(ch.Confirm(false))
		q := ch.Queue("work", "classic", nil)
		ch.Publish("", q, amqp.Publishing{Body: make([]byte, largest)})
		ch.Event()
		ch.Get(q)
		s.Try("one byte more", func(ch *Channel) error {
			ch.Publish("", q, amqp.Publishing{Body: make([]byte, largest+1)})
			return nil
		})
	}},
	{"largest-header", func(s *Script) {
		publish := func(n int) func(*Channel) error {
			return func(ch *Channel) error {
				return ch.PublishWithContext(s.ctx, "amq.fanout", "", false, false, amqp.Publishing{Headers: amqp.Table{"a": strings.Repeat("x", n)}})
			}
		}
		s.Try("a header of 131000 bytes", publish(131000))
		s.Try("a header of 200000 bytes", publish(200000))
	}},
	{"frame-max", func(s *Script) {
		for _, f := range []struct {
			what string
			size int
		}{
			{"not asked for", 0},
			{"unlimited", -1},
			{"larger", 1 << 20},
			{"8192", 8192},
		} {
			conn, err := s.dialWith(amqp.Config{FrameSize: f.size})
			s.Must(err)
			s.Note("%s: %d", f.what, conn.Config.FrameSize)
			ch := conn.Open()
			q := ch.Queue("work", "classic", nil)
			ch.StoreMessage(q, amqp.Publishing{Body: make([]byte, 20000)})
			s.Must(ch.Get(q).Ack(false))
		}
		_, err := s.dialWith(amqp.Config{FrameSize: 8191})
		s.Note("8191: %s", failure(err))
	}},
	{"channel-max", func(s *Script) {
		for _, n := range []uint16{0, 10, 2047, 2048, 65535} {
			conn, err := s.dialWith(amqp.Config{ChannelMax: n})
			s.Must(err)
			s.Note("%d asked for: %d", n, conn.Config.ChannelMax)
		}
		conn, err := s.dialWith(amqp.Config{ChannelMax: 2})
		s.Must(err)
		one := conn.Open()
		conn.Open()
		_, err = conn.Channel()
		s.Note("the third of two channels: %s", failure(err))
		s.Must(one.Close())
		conn.Open().State()
	}},
	{"heartbeat-is-negotiated", func(s *Script) {
		for _, d := range []time.Duration{0, 5 * time.Second, 60 * time.Second, 100 * time.Second} {
			conn, err := s.dialWith(amqp.Config{Heartbeat: d})
			s.Must(err)
			s.Note("%s asked for: %s", d, conn.Config.Heartbeat)
		}
	}},
}
