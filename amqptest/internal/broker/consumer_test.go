package broker

import (
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestConsumersTakeTurnsByPriority(t *testing.T) {
	s := newStage(t)
	s.classic("q", nil)
	ch := s.channel()
	s.must(ch.Qos(2, 0, false))
	low := s.consume(ch, "q", nil)
	a := s.consume(ch, "q", amqp.Table{"x-priority": 5})
	b := s.consume(ch, "q", amqp.Table{"x-priority": 5})
	s.send("q", "1", "2", "3", "4", "5", "6", "7")
	for c, want := range map[<-chan amqp.Delivery]string{a: "[1 3]", b: "[2 4]", low: "[5 6]"} {
		if got := bodies(s.next(c), s.next(c)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	s.expectReady("q", "7")
}

func TestSingleActiveConsumer(t *testing.T) {
	for _, kind := range []string{kindClassic, kindQuorum} {
		s := newStage(t)
		s.declare("q", amqp.Table{"x-queue-type": kind, "x-single-active-consumer": true})
		first, second := s.channel(), s.channel()
		s.must(first.Qos(1, 0, false))
		s.must(second.Qos(1, 0, false))
		a, b := s.consume(first, "q", nil), s.consume(second, "q", nil)
		s.send("q", "1", "2", "3")
		d := s.next(a)
		s.must(d.Ack(false))
		d = s.next(a)
		if q, _ := s.Queue("/", "q"); q.Unacked != 1 || len(b) != 0 {
			t.Fatalf("%s: %+v, and the waiting consumer has %d", kind, q, len(b))
		}
		s.must(first.Cancel(d.ConsumerTag, false)) // the first one remains active while 2 is unsettled
		if got := s.next(b); string(got.Body) != "3" {
			t.Errorf("%s: got %s", kind, got.Body)
		}
		_, _, err := s.ch.Get("q", false)
		if kind == kindQuorum {
			expectError(t, err, 405, "basic.get operations are not supported by <<\"quorum\">> queues with single active consumer")
		} else {
			s.must(err)
		}
	}
}

func TestHigherPriorityConsumerTakesOverOnceAllIsSettled(t *testing.T) {
	s := newStage(t)
	s.quorum("q", amqp.Table{"x-single-active-consumer": true})
	ch := s.channel()
	s.must(ch.Qos(2, 0, false))
	low := s.consume(ch, "q", nil)
	s.send("q", "1", "2")
	one, two := s.next(low), s.next(low)
	high := s.consume(ch, "q", amqp.Table{"x-priority": 1})
	s.send("q", "3")
	s.must(one.Ack(false))
	s.expectReady("q", "3")
	s.must(two.Ack(false))
	if d := s.next(high); string(d.Body) != "3" {
		t.Errorf("got %s", d.Body)
	}
}

// RabbitMQ identifies a consumer by its tag: a new consumer with an earlier one's tag inherits its unsettled
// deliveries.
func TestReusedTagInheritsUnsettledDeliveries(t *testing.T) {
	for kind, want := range map[string]string{kindClassic: "[2 3]", kindQuorum: "[2 0]"} {
		s := newStage(t)
		s.declare("q", amqp.Table{"x-queue-type": kind})
		s.send("q", "0", "1", "2", "3", "4")
		ch := s.channel()
		s.must(ch.Qos(2, 0, false))
		consume := func() <-chan amqp.Delivery {
			ds, err := ch.Consume("q", "tag", false, false, false, false, nil)
			s.must(err)
			return ds
		}
		ds := consume()
		first, second := s.next(ds), s.next(ds)
		s.must(ch.Cancel("tag", false))
		ds = consume()
		if kind == kindQuorum { // it already has two
			s.expectReady("q", "2", "3", "4")
			s.must(second.Ack(false))
			one := s.next(ds)
			s.must(first.Nack(false, true))
			if got := bodies(one, s.next(ds)); got != want {
				t.Errorf("%s: got %s, want %s", kind, got, want)
			}
			continue
		}
		if got := bodies(s.next(ds), s.next(ds)); got != want {
			t.Errorf("%s: got %s, want %s", kind, got, want)
		}
		s.must(first.Nack(false, true)) // which makes room for one more
		if got := bodies(s.next(ds)); got != "[0]" {
			t.Errorf("%s: got %s, want what came back", kind, got)
		}
	}
}

func TestConsumersAreCancelledWhenTheirQueueIsDeleted(t *testing.T) {
	s := newStage(t)
	s.quorum("q", nil)
	s.send("q", "1", "2")
	ch := s.channel()
	s.must(ch.Qos(1, 0, false))
	cancelled := ch.NotifyCancel(make(chan string, 1))
	ds := s.consume(ch, "q", nil)
	d := s.next(ds)
	n, err := s.ch.QueueDelete("q", false, false, false)
	s.must(err)
	if tag := next(t, cancelled); tag != d.ConsumerTag || n != 1 {
		t.Errorf("cancelled %q, deleted %d", tag, n)
	}
	s.must(d.Ack(false)) // no error
	s.must(ch.Qos(0, 0, false))
}

func TestConsumerTimeout(t *testing.T) {
	s := newStage(t)
	s.quorum("q", amqp.Table{"x-consumer-timeout": 60000})
	s.send("q", "1", "2", "3")
	ch := s.channel()
	s.must(ch.Qos(2, 0, false))
	cancelled := ch.NotifyCancel(make(chan string, 1))
	ds := s.consume(ch, "q", amqp.Table{"x-consumer-timeout": 1000}) // the consumer's argument takes precedence
	d := s.next(ds)
	s.next(ds)
	s.Advance(999 * time.Millisecond)
	if q, _ := s.Queue("/", "q"); q.Unacked != 2 {
		t.Fatalf("%+v before the time", q)
	}
	s.Advance(time.Millisecond)
	next(t, cancelled)
	s.must(d.Ack(false)) // late, but no error
	s.must(ch.Qos(0, 0, false))
	s.expectReady("q", "1", "2", "3")
	got, _ := s.get("q")
	if counts(got) != "true 1 <nil>" {
		t.Errorf("it comes again with %s", counts(got))
	}
	closed := s.ch.NotifyClose(make(chan *amqp.Error, 1))
	s.Advance(time.Minute)
	expectError(t, next(t, closed), 406, "delivery acknowledgement on channel 1 timed out. Timeout value used: -1 ms.")
}

func TestClassicQueuesHaveNoConsumerTimeout(t *testing.T) {
	s := newStage(t)
	s.classic("q", nil)
	s.send("q", "m")
	s.get("q")
	s.Advance(24 * time.Hour)
	if q, _ := s.Queue("/", "q"); q.Unacked != 1 {
		t.Errorf("%+v", q)
	}
}

func TestUnusedQueuesExpire(t *testing.T) {
	s := newStage(t)
	has := func(name string) bool { _, ok := s.Queue("/", name); return ok }
	declare := func(ch *amqp.Channel, name string, autoDelete, exclusive bool, args amqp.Table) {
		t.Helper()
		_, err := ch.QueueDeclare(name, false, autoDelete, exclusive, false, args)
		s.must(err)
	}
	conn := s.dial()
	declare(s.channelOf(conn), "exclusive", false, true, nil)
	declare(s.ch, "auto-delete", true, false, nil)
	declare(s.ch, "expires", false, false, amqp.Table{"x-expires": 1000})
	declare(s.ch, "used", false, false, amqp.Table{"x-expires": 1000})

	s.must(conn.Close())
	s.await("the exclusive queue goes", func() bool { return !has("exclusive") })

	for _, tag := range []string{"a", "b"} {
		_, err := s.ch.Consume("auto-delete", tag, true, false, false, false, nil)
		s.must(err)
	}
	s.must(s.ch.Cancel("a", false))
	if !has("auto-delete") {
		t.Error("it went with the first of two consumers")
	}
	s.must(s.ch.Cancel("b", false))
	if has("auto-delete") {
		t.Error("it stays without a consumer")
	}

	_, err := s.ch.Consume("used", "c", true, false, false, false, nil)
	s.must(err)
	s.Advance(time.Second)
	if has("expires") || !has("used") {
		t.Errorf("expires %v, used %v", has("expires"), has("used"))
	}
	s.must(s.ch.Cancel("c", false))
	s.Advance(999 * time.Millisecond)
	if s.get("used"); !has("used") {
		t.Error("it is gone too early")
	}
	s.Advance(999 * time.Millisecond)
	if !has("used") {
		t.Error("basic.get is no use")
	}
	s.Advance(time.Millisecond)
	if has("used") {
		t.Error("it stays")
	}
}

func TestPriorities(t *testing.T) {
	for kind, want := range map[string][]string{
		kindClassic: {"9", "5", "3", "1", "0", "none"},
		kindQuorum:  {"9", "5", "none", "3", "1", "0"}, // no priority means 4
	} {
		s := newStage(t)
		s.declare("q", map[string]amqp.Table{
			kindClassic: {"x-max-priority": 5},
			kindQuorum:  {"x-queue-type": "quorum"},
		}[kind])
		for i, p := range []uint8{0, 1, 9, 5, 3} {
			if i == 0 && kind == kindClassic {
				s.publish("", "q", amqp.Publishing{Body: []byte("0")})
				continue
			}
			if p > 0 {
				s.publish("", "q", amqp.Publishing{Priority: p, Body: []byte{'0' + p}})
			}
		}
		s.publish("", "q", amqp.Publishing{Body: []byte("none")})
		if kind == kindQuorum { // amqp091-go does not send priority 0
			want = slices.DeleteFunc(want, func(s string) bool { return s == "0" })
		}
		s.expectReady("q", want...)
	}
}

func TestDirectReplyTo(t *testing.T) {
	s := newStage(t)
	s.classic("rpc", nil)
	caller := s.channel()
	replies, err := caller.Consume(replyName, "", true, false, false, false, nil)
	s.must(err)
	s.must(caller.PublishWithContext(t.Context(), "", "rpc", false, false, amqp.Publishing{ReplyTo: replyName, Body: []byte("?")}))
	s.must(caller.Qos(0, 0, false))
	request, _ := s.get("rpc")
	_, err = s.ch.QueueDeclarePassive(request.ReplyTo, false, false, false, false, nil)
	s.must(err)

	s.must(s.ch.Confirm(false))
	returned := s.ch.NotifyReturn(make(chan amqp.Return, 2))
	answer := func(to string) bool {
		dc, err := s.ch.PublishWithDeferredConfirm("", to, true, false, amqp.Publishing{Body: []byte("!")})
		s.must(err)
		return dc.Wait()
	}
	if !answer(request.ReplyTo) || string(s.next(replies).Body) != "!" {
		t.Error("no reply")
	}
	s.must(caller.Close())
	// RabbitMQ 4.3 treats a reply to a closed channel as routed
	if !answer(request.ReplyTo) || len(returned) != 0 {
		t.Errorf("a late reply: %d returned", len(returned))
	}
	if !answer("amq.rabbitmq.reply-to.made-up") || len(returned) != 1 {
		t.Errorf("a reply to nobody: %d returned", len(returned))
	}
	_, err = s.ch.QueueDeclarePassive(request.ReplyTo, false, false, false, false, nil)
	expectError(t, err, 404, "no queue")
}
