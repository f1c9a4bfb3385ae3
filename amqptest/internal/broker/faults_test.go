package broker

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// confirmed publishes in confirm mode.
func confirmed(t *testing.T, ch *amqp.Channel, queue, body string) *amqp.DeferredConfirmation {
	t.Helper()
	dc, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	return dc
}

func TestReturnsPrecedeTheirConfirms(t *testing.T) {
	s := newStage(t)
	s.must(s.ch.Confirm(false))
	returned := s.ch.NotifyReturn(make(chan amqp.Return, 100))
	for i := range 100 {
		if !confirmed(t, s.ch, "nobody", "m").Wait() || len(returned) != i+1 {
			t.Fatalf("message %d: %d returned", i, len(returned))
		}
	}
	if r := <-returned; r.ReplyCode != 312 || r.ReplyText != "NO_ROUTE" || r.RoutingKey != "nobody" || string(r.Body) != "m" {
		t.Errorf("%+v", r)
	}
}

func TestConfirmsAreHeldDroppedAndNacked(t *testing.T) {
	s := newStage(t)
	s.classic("q", nil)
	s.must(s.ch.Confirm(false))
	s.HoldConfirms()
	held := confirmed(t, s.ch, "q", "held")
	s.expectReady("q", "held") // stored, and the channel is still open
	if s.Idle() || held.Acked() {
		t.Error("the confirm is not held")
	}
	s.ReleaseConfirms()
	if !held.Wait() {
		t.Error("the confirm is lost")
	}
	s.NackNext(1)
	if confirmed(t, s.ch, "q", "nacked").Wait() || !confirmed(t, s.ch, "q", "acked").Wait() {
		t.Error("not the next one is nacked")
	}
	s.expectReady("q", "held", "acked")

	s.DropConfirms(true)
	dropped := confirmed(t, s.ch, "q", "dropped")
	s.sync()
	s.DropConfirms(false)
	s.must(s.ch.Close())
	if dropped.Wait() {
		t.Error("the confirm came")
	}
	s.ch = s.channel()
	s.expectReady("q", "held", "acked", "dropped")
}

func TestDroppedConnectionsRequeueTheirDeliveries(t *testing.T) {
	s := newStage(t)
	s.quorum("q", nil)
	s.send("q", "m")
	ds := s.consume(s.ch, "q", nil)
	s.next(ds)
	closed := s.conn.NotifyClose(make(chan *amqp.Error, 1))
	if n := s.DropConnections(); n != 1 {
		t.Errorf("dropped %d", n)
	}
	if e := next(t, closed); !strings.Contains(e.Reason, syscall.ECONNRESET.Error()) {
		t.Errorf("closed with %v", e)
	}
	s.await("the message is back", func() bool { q, _ := s.Queue("/", "q"); return q.Ready == 1 && q.Consumers == 0 })
	s.conn = s.dial()
	s.ch = s.channel()
	if d, _ := s.get("q"); counts(d) != "true 1 1" {
		t.Errorf("it comes again with %s", counts(d))
	}
}

func TestChannelsAndConnectionsAreClosedOnDemand(t *testing.T) {
	s := newStage(t)
	closed, gone := s.ch.NotifyClose(make(chan *amqp.Error, 1)), s.conn.NotifyClose(make(chan *amqp.Error, 1))
	if n := s.CloseChannels(406, "PRECONDITION_FAILED - as asked"); n != 1 {
		t.Errorf("closed %d channels", n)
	}
	expectError(t, next(t, closed), 406, "PRECONDITION_FAILED - as asked")
	s.ch = s.channel()
	if n := s.CloseConnections(nil, 320, "CONNECTION_FORCED - as asked"); n != 1 {
		t.Errorf("closed %d connections", n)
	}
	expectError(t, next(t, gone), 320, "CONNECTION_FORCED - as asked")
}

func TestConsumersAreCancelledOnDemand(t *testing.T) {
	s := newStage(t)
	s.quorum("q", nil)
	cancelled := s.ch.NotifyCancel(make(chan string, 1))
	s.consume(s.ch, "q", nil)
	if n := s.CancelConsumers("/", "q"); n != 1 {
		t.Errorf("cancelled %d", n)
	}
	next(t, cancelled)
	s.send("q", "m")
	s.expectReady("q", "m")
}

func TestBlockAffectsOnlyPublishers(t *testing.T) {
	s := newStage(t)
	s.classic("q", nil)
	s.must(s.ch.Confirm(false))
	blocked := s.conn.NotifyBlocked(make(chan amqp.Blocking, 2))
	other := s.dial()
	consuming := s.channelOf(other)
	ds := s.consume(consuming, "q", nil)

	s.Block("low on memory")
	s.must(s.ch.Qos(0, 0, false)) // blocked only when it publishes
	var dcs []*amqp.DeferredConfirmation
	for range 20 {
		dcs = append(dcs, confirmed(t, s.ch, "q", "m"))
	}
	if b := next(t, blocked); !b.Active || b.Reason != "low on memory" {
		t.Errorf("%+v", b)
	}
	s.must(consuming.Qos(1, 0, false))
	if q, _ := s.Queue("/", "q"); q.Ready+q.Unacked != 0 || dcs[0].Acked() {
		t.Errorf("%+v: the publisher is not blocked", q)
	}
	if !slices.ContainsFunc(s.Connections(), func(c Connection) bool { return c.Blocked }) {
		t.Error("no connection counts as blocked")
	}
	s.Unblock()
	if b := next(t, blocked); b.Active {
		t.Errorf("%+v", b)
	}
	for _, dc := range dcs {
		if !dc.Wait() {
			t.Error("a confirm is lost")
		}
	}
	for range 20 {
		s.next(ds)
	}
}

func TestBlockedConnectionCanBeDropped(t *testing.T) {
	s := newStage(t)
	closed := s.conn.NotifyClose(make(chan *amqp.Error, 1))
	blocked := s.conn.NotifyBlocked(make(chan amqp.Blocking, 2))
	s.Block("why")
	s.send("q", "m")
	next(t, blocked)
	s.DropConnections()
	_ = next(t, closed)
	s.await("it is gone", func() bool { return len(s.Connections()) == 0 })
}

func TestLogins(t *testing.T) {
	s := newStage(t)
	if _, err := s.dialWith(amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "no"}}}); !errors.Is(err, amqp.ErrCredentials) {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := s.dialWith(amqp.Config{SASL: []amqp.Authentication{&amqp.AMQPlainAuth{Username: "guest", Password: "guest"}}}); err != nil {
		t.Errorf("AMQPLAIN: %v", err)
	}
	if _, err := s.dialWith(amqp.Config{Vhost: "none"}); err == nil || !strings.Contains(err.Error(), "vhost none not found") {
		t.Errorf("no such virtual host: %v", err)
	}
	s.RefuseLogins(true)
	if _, err := s.dialWith(amqp.Config{}); !errors.Is(err, amqp.ErrCredentials) {
		t.Errorf("while logins are refused: %v", err)
	}
	s.RefuseLogins(false)
	conn := s.dial()
	if conn.Config.FrameSize != 131072 || conn.Config.ChannelMax != 2047 || conn.Properties["version"] != Version {
		t.Errorf("%+v %v", conn.Config, conn.Properties)
	}
	s.must(conn.UpdateSecret("new", "why"))
}

func TestOnlyDurableStateSurvivesARestart(t *testing.T) {
	for _, how := range []string{"stop", "kill"} {
		s := newStage(t)
		s.classic("classic", nil)
		s.quorum("quorum", nil)
		_, err := s.ch.QueueDeclare("transient", false, false, false, false, nil)
		s.must(err)
		s.must(s.ch.ExchangeDeclare("durable", "fanout", true, false, false, false, nil))
		s.must(s.ch.ExchangeDeclare("passing", "fanout", false, false, false, false, nil))
		s.must(s.ch.QueueBind("classic", "", "durable", false, nil))
		for _, q := range []string{"classic", "quorum", "transient"} {
			s.publish("", q, amqp.Publishing{Body: []byte("persistent"), DeliveryMode: amqp.Persistent})
			s.publish("", q, amqp.Publishing{Body: []byte("passing")})
		}
		s.get("quorum")
		closed := s.conn.NotifyClose(make(chan *amqp.Error, 1))
		if how == "stop" {
			s.Stop()
			expectError(t, next(t, closed), 320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'")
		} else {
			s.Kill()
			_ = next(t, closed)
		}
		if _, err := s.Dial(); !errors.Is(err, ErrClosed) {
			t.Errorf("Dial after %s: %v", how, err)
		}
		s.must(s.Start())
		s.conn = s.dial()
		s.ch = s.channel()
		s.expectReady("classic", "persistent")
		s.expectReady("quorum", "persistent", "passing")
		if d, _ := s.get("quorum"); counts(d) != "true 1 1" {
			t.Errorf("it comes again with %s", counts(d))
		}
		if _, ok := s.Queue("/", "transient"); ok {
			t.Error("the transient queue is there")
		}
		s.publish("durable", "", amqp.Publishing{Body: []byte("bound")})
		s.expectReady("classic", "persistent", "bound")
		expectError(t, s.channel().ExchangeDeclarePassive("passing", "fanout", false, false, false, false, nil), 404, "no exchange 'passing'")
		s.Close()
		if err := s.Start(); !errors.Is(err, ErrClosed) {
			t.Errorf("Start after Close: %v", err)
		}
	}
}

// A client that does not read makes the broker neither grow nor lose messages.
func TestDeliveriesPauseForASlowReader(t *testing.T) {
	s := newStage(t)
	s.classic("q", nil)
	nc := rawClient(t, s.Broker)
	nc.method(1, &consumeAll)
	body := string(make([]byte, 100_000))
	const n = 60
	for range n {
		s.send("q", body)
	}
	s.sync()
	if q, _ := s.Queue("/", "q"); q.Ready < n/2 {
		t.Errorf("%+v: the rest went to a client that does not read", q)
	}
	got := 0
	for got < n*len(body) {
		f := nc.read()
		if f.Type == 3 {
			got += len(f.Payload)
		}
	}
	s.await("all is taken", s.Idle)
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		nc := rawClientWith(t, s.Broker, 4)
		began := time.Now()
		for range 2 {
			if f := nc.read(); f.Type != 8 {
				t.Errorf("%+v, want a heartbeat", f)
			}
		}
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("two heartbeats came after %v, want one in half the interval", took)
		}
		for { // the client sends no heartbeats
			if _, err := nc.reader.Next(); err != nil {
				if took := time.Since(began); took != 8*time.Second {
					t.Errorf("%v after %v, want the end of the connection after two intervals", err, took)
				}
				return
			}
		}
	})
}
