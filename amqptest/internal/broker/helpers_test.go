package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// soon bounds every wait.
const soon = 5 * time.Second

// A stage is a broker with a connection and a channel.
type stage struct {
	*Broker
	t    *testing.T
	conn *amqp.Connection
	ch   *amqp.Channel
}

func testConfig() Config {
	return Config{
		InMemory: true, Users: map[string]string{"guest": "guest"}, VHosts: []string{"/"}, ManualClock: true, Heartbeat: time.Minute,
		ChannelMax: 2047, FrameMax: 131072, MaxMessageSize: 16 << 20, ConsumerTimeout: 30 * time.Minute, PublishedLimit: 100,
	}
}

func newStage(t *testing.T) *stage { t.Helper(); return newStageWith(t, testConfig()) }

func newStageWith(t *testing.T, c Config) *stage {
	t.Helper()
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	s := &stage{Broker: b, t: t}
	s.conn = s.dial()
	s.ch = s.channel()
	return s
}

func (s *stage) dial() *amqp.Connection {
	s.t.Helper()
	conn, err := s.dialWith(amqp.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

func (s *stage) dialWith(c amqp.Config) (*amqp.Connection, error) {
	c.Dial = func(string, string) (net.Conn, error) { return s.Dial() }
	conn, err := amqp.DialConfig("amqp://guest:guest@amqptest/", c)
	if err == nil {
		s.t.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(soon)) })
	}
	return conn, err
}

func (s *stage) channel() *amqp.Channel {
	s.t.Helper()
	return s.channelOf(s.conn)
}

func (s *stage) channelOf(conn *amqp.Connection) *amqp.Channel {
	s.t.Helper()
	ch, err := conn.Channel()
	s.must(err)
	return ch
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// quorum and classic declare a durable queue.
func (s *stage) quorum(name string, arguments amqp.Table) {
	s.t.Helper()
	s.declare(name, with(arguments, "x-queue-type", "quorum"))
}

func (s *stage) classic(name string, arguments amqp.Table) { s.t.Helper(); s.declare(name, arguments) }

func (s *stage) declare(name string, arguments amqp.Table) {
	s.t.Helper()
	_, err := s.ch.QueueDeclare(name, true, false, false, false, arguments)
	s.must(err)
}

func with(t amqp.Table, key string, v any) amqp.Table {
	c := amqp.Table{key: v}
	for k, v := range t {
		c[k] = v
	}
	return c
}

// send publishes bodies to a queue.
func (s *stage) send(queue string, bodies ...string) {
	s.t.Helper()
	for _, b := range bodies {
		s.publish("", queue, amqp.Publishing{Body: []byte(b)})
	}
}

func (s *stage) publish(exchange, key string, p amqp.Publishing) {
	s.t.Helper()
	s.must(s.ch.PublishWithContext(context.Background(), exchange, key, false, false, p))
}

// sync returns when the broker has handled everything sent on the channel.
func (s *stage) sync() {
	s.t.Helper()
	s.must(s.ch.Qos(0, 0, false))
}

func (s *stage) consume(ch *amqp.Channel, queue string, arguments amqp.Table) <-chan amqp.Delivery {
	s.t.Helper()
	ds, err := ch.Consume(queue, "", false, false, false, false, arguments)
	s.must(err)
	return ds
}

// next returns the next delivery.
func (s *stage) next(ds <-chan amqp.Delivery) amqp.Delivery {
	s.t.Helper()
	return next(s.t, ds)
}

func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatal("it is closed")
		}
		return v
	case <-time.After(soon):
		t.Fatal("nothing comes")
		panic("unreachable")
	}
}

// get fetches the next message of a queue without acknowledging it.
func (s *stage) get(queue string) (amqp.Delivery, bool) {
	s.t.Helper()
	d, ok, err := s.ch.Get(queue, false)
	s.must(err)
	return d, ok
}

func (s *stage) recover(ch *amqp.Channel, requeue bool) error {
	return ch.Recover(requeue) //nolint:staticcheck // deprecated, and still there: clients may send it
}

// expectReady compares the ready messages of a queue.
func (s *stage) expectReady(queue string, want ...string) {
	s.t.Helper()
	s.sync()
	var got []string
	for _, m := range s.Messages("/", queue) {
		got = append(got, string(m.Body))
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("queue %s has %q, want %q", queue, got, want)
	}
}

func (s *stage) await(what string, condition func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := s.Await(ctx, condition); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// expectError compares the code and a part of the text.
func expectError(t *testing.T, err error, code int, text string) {
	t.Helper()
	var e *amqp.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Reason, text) {
		t.Errorf("error %v, want %d %q", err, code, text)
	}
}

func bodies(ds ...amqp.Delivery) string {
	var list []string
	for _, d := range ds {
		list = append(list, string(d.Body))
	}
	return fmt.Sprint(list)
}
