package amqptest_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
)

func TestInterceptAnswersOrRefusesARequest(t *testing.T) {
	isConsume := amqptest.IsMethod(60, 20)
	for name, c := range map[string]struct {
		react func(*amqptest.Request)
		check func(t *testing.T, d <-chan amqp.Delivery, err error)
	}{
		"reply": {
			func(r *amqptest.Request) {
				r.Reply(amqptest.MethodFrame(r.Channel, 60, 21, "c"))
				r.Reply(amqptest.BasicDeliver(r.Channel, "c", 9, amqptest.Message{Key: "q", Redelivered: true, Body: []byte("forged")})...)
			},
			func(t *testing.T, d <-chan amqp.Delivery, err error) {
				t.Helper()
				if got := <-d; err != nil || got.DeliveryTag != 9 || string(got.Body) != "forged" {
					t.Errorf("delivered %+v (%v)", got, err)
				}
			},
		},
		"close the channel": {
			func(r *amqptest.Request) { r.CloseChannel(403, "ACCESS_REFUSED - no") },
			expectCode(403),
		},
		"close the connection": {
			func(r *amqptest.Request) { r.CloseConnection(541, "INTERNAL_ERROR") },
			expectCode(541),
		},
		"drop the connection": {
			func(r *amqptest.Request) { r.DropConnection() },
			expectCode(501),
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := amqptest.Start(t)
			conn, err := amqp.DialConfig(b.URL(), amqp.Config{Properties: amqp.Table{"connection_name": "shipping"}})
			must(t, err)
			defer func() { _ = conn.Close() }()
			ch, err := conn.Channel()
			must(t, err)
			_, err = ch.QueueDeclare("q", true, false, false, false, nil)
			must(t, err)
			b.Intercept(func(r *amqptest.Request) bool {
				if !isConsume(r.Frame) || r.Connection != "shipping" {
					return false
				}
				c.react(r)
				return true
			})
			d, err := ch.Consume("q", "c", true, false, false, false, nil)
			c.check(t, d, err)
			if q, _ := b.Queue("q"); q.Consumers != 0 {
				t.Error("the broker handled an intercepted basic.consume")
			}
		})
	}
}

func expectCode(code int) func(*testing.T, <-chan amqp.Delivery, error) {
	return func(t *testing.T, _ <-chan amqp.Delivery, err error) {
		t.Helper()
		var e *amqp.Error
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("Consume = %v, want code %d", err, code)
		}
	}
}

func TestInterceptedPublishIsIgnoredWithItsContent(t *testing.T) {
	b := amqptest.Start(t)
	_, ch := dial(t, b)
	_, err := ch.QueueDeclare("q", true, false, false, false, nil)
	must(t, err)
	first := true
	b.Intercept(func(r *amqptest.Request) bool {
		if !amqptest.IsMethod(60, 40)(r.Frame) {
			return false
		}
		defer func() { first = false }()
		return first
	})
	for _, body := range []string{"ignored", "stored"} {
		must(t, ch.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Body: []byte(body)}))
	}
	must(t, ch.Qos(0, 0, false)) // all earlier requests were handled
	if got := b.Messages("q"); len(got) != 1 || string(got[0].Body) != "stored" {
		t.Errorf("stored %+v", got)
	}
}

func TestConfirmsDoNotWaitForAnInterceptedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := amqptest.Start(t, amqptest.Config{InMemory: true})
		b.Intercept(func(r *amqptest.Request) bool {
			if amqptest.IsMethod(60, 10)(r.Frame) {
				time.Sleep(time.Hour)
			}
			return false
		})
		nc, err := b.Dial(t.Context(), "", "")
		must(t, err)
		conn, err := amqp.Open(nc, amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "guest"}}, Vhost: "/", Heartbeat: 3 * time.Hour})
		must(t, err)
		defer func() { _ = conn.Close() }()
		ch, err := conn.Channel()
		must(t, err)
		must(t, ch.Confirm(false))
		began := time.Now()
		confirm, err := ch.PublishWithDeferredConfirm("", "nowhere", false, false, amqp.Publishing{})
		must(t, err)
		done := make(chan error, 1)
		go func() { done <- ch.Qos(1, 0, false) }()
		if confirm.Wait(); time.Since(began) != 0 {
			t.Errorf("confirmed after %v", time.Since(began))
		}
		if must(t, <-done); time.Since(began) != time.Hour {
			t.Errorf("basic.qos was answered after %v, want an hour", time.Since(began))
		}
	})
}

func TestConnectionClosesWhenItsLoginExpires(t *testing.T) {
	var b *amqptest.Broker
	b = amqptest.Start(t, amqptest.Config{ManualClock: true, Login: func(user, secret string) (time.Time, bool) {
		switch secret {
		case "hour":
			return b.Now().Add(time.Hour), user == "app"
		case "forever":
			return time.Time{}, user == "app"
		}
		return time.Time{}, false
	}})
	for secret, want := range map[string]int{"hour": 320, "renewed": 0, "refused": 530} {
		login := secret
		if secret != "hour" {
			login = "hour"
		}
		conn, err := amqp.Dial("amqp://app:" + login + "@" + b.Addr() + "/")
		must(t, err)
		closed := conn.NotifyClose(make(chan *amqp.Error, 1))
		switch secret {
		case "renewed":
			must(t, conn.UpdateSecret("forever", "test"))
		case "refused":
			if err := conn.UpdateSecret("wrong", "test"); err == nil {
				t.Error("a secret that Login refuses was accepted")
			}
		}
		b.Advance(2 * time.Hour)
		if want == 0 {
			_, err := conn.Channel() // still open
			must(t, err)
			must(t, conn.Close())
			continue
		}
		if e := <-closed; e == nil || e.Code != want {
			t.Errorf("%s: closed with %v, want %d", secret, e, want)
		}
	}
	if conn, err := amqp.Dial("amqp://app:wrong@" + b.Addr() + "/"); err == nil {
		_ = conn.Close()
		t.Error("a login that Login refuses was accepted")
	}
}
