package producer_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// dial returns a broker in memory that has the queue orders, and a connection to it.
func dial(t *testing.T) (*amqptest.Broker, *amqpkit.Conn) {
	t.Helper()
	b := amqptest.Start(t, amqptest.Config{InMemory: true})
	orders := topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
	conn, err := amqpkit.DialConfig(t.Context(), amqpkit.Config{
		URLs: []string{b.URL()}, Dialer: b.Dial, Setup: orders.Declare, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b, conn
}

var quiet = slog.New(slog.DiscardHandler)

// start returns a producer on a broker in memory that has the queue orders, and the broker.
func start(t *testing.T, cfg producer.Config) (*amqptest.Broker, *producer.Producer) {
	t.Helper()
	b, conn := dial(t)
	cfg.Logger = quiet
	p, err := producer.New(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b, p
}

// publish publishes to the queue orders, and returns when the broker has got it.
func publish(t *testing.T, b *amqptest.Broker, p *producer.Producer, body string) *producer.Receipt {
	t.Helper()
	before := len(b.Published())
	r, err := p.PublishAsync(t.Context(), "", "orders", amqp.Publishing{Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	await(t, b, func() bool { return len(b.Published()) > before })
	return r
}

func await(t *testing.T, b *amqptest.Broker, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.Await(ctx, condition); err != nil {
		t.Fatal(err)
	}
}

// stored lists the bodies in the queue orders.
func stored(b *amqptest.Broker) (bodies []string) {
	for _, m := range b.Messages("orders") {
		bodies = append(bodies, string(m.Body))
	}
	return bodies
}

func TestEachOfTheFiveOutcomesIsTold(t *testing.T) {
	b, p := start(t, producer.Config{NoResend: true})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var returned *producer.ReturnedError
	for name, c := range map[string]struct {
		publish func() error
		want    func(error) bool
		stored  bool
		maybe   bool
	}{
		"routed and confirmed": {
			publish: func() error { return publish(t, b, p, "m").Wait(t.Context()) },
			want:    func(err error) bool { return err == nil },
			stored:  true, maybe: true,
		},
		"returned": {
			publish: func() error { return p.Publish(t.Context(), "", "order", amqp.Publishing{Body: []byte("m")}) },
			want: func(err error) bool {
				return errors.As(err, &returned) && returned.Code == 312 && returned.Text == "NO_ROUTE" && returned.Key == "order"
			},
		},
		"nacked": {
			publish: func() error { b.NackNext(1); return publish(t, b, p, "m").Wait(t.Context()) },
			want:    func(err error) bool { return errors.Is(err, producer.ErrNacked) },
		},
		"unconfirmed": {
			publish: func() error {
				b.HoldConfirms()
				defer b.ReleaseConfirms()
				r := publish(t, b, p, "m")
				b.DropConnections()
				return r.Wait(t.Context())
			},
			want:   func(err error) bool { return errors.Is(err, producer.ErrUnconfirmed) },
			stored: true, maybe: true,
		},
		"not published: its ctx has ended": {
			publish: func() error { return p.Publish(ended, "", "orders", amqp.Publishing{Body: []byte("m")}) },
			want: func(err error) bool {
				return errors.Is(err, producer.ErrNotPublished) && errors.Is(err, context.Canceled)
			},
		},
		"not published: there is no such exchange": {
			publish: func() error { return p.Publish(t.Context(), "nowhere", "orders", amqp.Publishing{Body: []byte("m")}) },
			want:    func(err error) bool { return errors.Is(err, producer.ErrNotPublished) },
		},
		"not published: it is invalid": {
			publish: func() error { return p.Publish(t.Context(), "", "orders", amqp.Publishing{Expiration: "soon"}) },
			want: func(err error) bool {
				var field *amqperr.FieldError
				return errors.Is(err, producer.ErrNotPublished) && errors.As(err, &field) && field.Field == "Expiration"
			},
		},
	} {
		before := len(b.Messages("orders"))
		err := c.publish()
		if !c.want(err) || producer.MaybeDelivered(err) != c.maybe {
			t.Errorf("%s: %v, MaybeDelivered %v", name, err, producer.MaybeDelivered(err))
		}
		if got := len(b.Messages("orders")) == before+1; got != c.stored {
			t.Errorf("%s: stored is %v, want %v", name, got, c.stored)
		}
	}
}

func TestAMessageHasAnIDAndIsPersistentAndIsOtherwiseAsGiven(t *testing.T) {
	b, p := start(t, producer.Config{})
	r := publish(t, b, p, "m")
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := b.Messages("orders")[0]
	if m.MessageID == "" || m.MessageID != r.MessageID() || m.DeliveryMode != amqp.Persistent || len(m.Headers) > 0 || m.ContentType != "" {
		t.Errorf("%+v, receipt of %q", m, r.MessageID())
	}
}

func TestLossOfTheConnectionSendsAgainInOrderUnderTheSameIDs(t *testing.T) {
	b, p := start(t, producer.Config{})
	b.HoldConfirms()
	var receipts []*producer.Receipt
	for _, body := range []string{"a", "b", "c"} {
		receipts = append(receipts, publish(t, b, p, body))
	}
	b.DropConnections()
	b.ReleaseConfirms()
	for _, r := range receipts {
		if err := r.Wait(t.Context()); err != nil {
			t.Errorf("Wait = %v", err)
		}
	}
	if got := stored(b); !slices.Equal(got, []string{"a", "b", "c", "a", "b", "c"}) {
		t.Errorf("stored %q, want each twice, in order", got)
	}
	if receipts[0].MessageID() == receipts[1].MessageID() {
		t.Error("two messages have one id")
	}
	for i, m := range b.Messages("orders") {
		if want := receipts[i%3].MessageID(); m.MessageID != want {
			t.Errorf("copy %d has the id %q, want %q", i, m.MessageID, want)
		}
	}
}

// The first attempt may have been stored, so that no later failure makes the message one that was not.
func TestAfterALossEvenARefusalIsUnconfirmed(t *testing.T) {
	b, p := start(t, producer.Config{})
	b.HoldConfirms()
	r := publish(t, b, p, "m")
	b.NackNext(1)
	b.DropConnections()
	b.ReleaseConfirms()
	err := r.Wait(t.Context())
	if !errors.Is(err, producer.ErrUnconfirmed) || errors.Is(err, producer.ErrNacked) || !producer.MaybeDelivered(err) {
		t.Errorf("Wait = %v, want ErrUnconfirmed", err)
	}
}

func TestAReceiptIsDoneWhenTheBrokerConfirms(t *testing.T) {
	b, p := start(t, producer.Config{})
	b.HoldConfirms()
	r := publish(t, b, p, "m")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait before the confirm = %v", err)
	}
	select {
	case <-r.Done():
		t.Error("done before the confirm")
	default:
	}
	b.ReleaseConfirms()
	if err := r.Wait(t.Context()); err != nil {
		t.Errorf("Wait = %v", err)
	}
}

func TestAFullWindowWaitsForAConfirm(t *testing.T) {
	b, p := start(t, producer.Config{MaxInFlight: 2})
	b.HoldConfirms()
	publish(t, b, p, "a")
	publish(t, b, p, "b")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Publish(ctx, "", "orders", amqp.Publishing{}); !errors.Is(err, producer.ErrNotPublished) {
		t.Errorf("a third message: %v, want ErrNotPublished", err)
	}
	b.ReleaseConfirms()
	if err := p.Publish(t.Context(), "", "orders", amqp.Publishing{Body: []byte("c")}); err != nil {
		t.Errorf("Publish = %v", err)
	}
	if got := stored(b); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("stored %q", got)
	}
}

func TestABlockedBrokerStopsPublishersUntilItTakesMessagesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := start(t, producer.Config{})
		b.Block("low on memory")
		first, err := p.PublishAsync(t.Context(), "", "orders", amqp.Publishing{Body: []byte("a")}) // after which it blocks
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		err = p.Publish(ctx, "", "orders", amqp.Publishing{Body: []byte("b")})
		if !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, amqperr.ErrBlocked) || time.Since(began) != time.Minute {
			t.Errorf("Publish = %v after %v, want ErrNotPublished and amqperr.ErrBlocked at the end of ctx", err, time.Since(began))
		}
		b.Unblock()
		if err := first.Wait(t.Context()); err != nil {
			t.Errorf("Wait = %v", err)
		}
		if err := p.Publish(t.Context(), "", "orders", amqp.Publishing{Body: []byte("c")}); err != nil {
			t.Errorf("Publish = %v", err)
		}
		if got := stored(b); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("stored %q", got)
		}
	})
}

// While a slow queue delays the confirm of the oldest message, younger ones have their outcomes at once.
func TestConfirmThatOvertakesAnOlderOneIsReportedAtOnce(t *testing.T) {
	b := amqptest.Start(t)
	proxy := amqptest.StartProxy(t, b.URL())
	orders := topology.Topology{Queues: []topology.Queue{{Name: "orders"}}}
	conn, err := amqpkit.DialConfig(t.Context(), amqpkit.Config{URLs: []string{proxy.URL()}, Setup: orders.Declare})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	p, err := producer.New(conn, producer.Config{ConfirmTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	defer p.Close(ctx)
	dropped := proxy.Next(func(e amqptest.Event) bool { return e.Kind == amqptest.ConfirmHeld })
	proxy.DropConfirms(true)
	var receipts []*producer.Receipt
	for _, body := range []string{"a", "b", "c", "d"} {
		receipts = append(receipts, publish(t, b, p, body))
	}
	channel := (<-dropped).Channel
	proxy.Inject(amqptest.FromBroker, amqptest.BasicAck(channel, 3, false))
	if err := receipts[2].Wait(ctx); err != nil {
		t.Errorf("c: %v, want its confirm", err)
	}
	proxy.Inject(amqptest.FromBroker, amqptest.BasicNack(channel, 2, false, false))
	if err := receipts[1].Wait(ctx); !errors.Is(err, producer.ErrNacked) {
		t.Errorf("b: %v, want ErrNacked", err)
	}
	for _, i := range []int{0, 3} {
		select {
		case <-receipts[i].Done():
			t.Errorf("message %d has an outcome before its confirm", i)
		default:
		}
	}
	proxy.Inject(amqptest.FromBroker, amqptest.BasicAck(channel, 4, true))
	for _, i := range []int{0, 3} {
		if err := receipts[i].Wait(ctx); err != nil {
			t.Errorf("message %d: %v, want its confirm", i, err)
		}
	}
}

func TestConfirmsThatStayAwayAreUnconfirmedAfterTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := start(t, producer.Config{})
		b.DropConfirms(true)
		began := time.Now()
		err := p.Publish(t.Context(), "", "orders", amqp.Publishing{})
		if !errors.Is(err, producer.ErrUnconfirmed) || !errors.Is(err, producer.ErrConfirmTimeout) {
			t.Errorf("Publish = %v, want ErrUnconfirmed and ErrConfirmTimeout", err)
		}
		if took := time.Since(began).Round(time.Second); took != 30*time.Second {
			t.Errorf("given up after %v, want 30 s", took)
		}
		b.DropConfirms(false)
		if err := p.Publish(t.Context(), "", "orders", amqp.Publishing{}); err != nil {
			t.Errorf("the next: %v", err)
		}
	})
}

// A Ticker delivers the time of a tick that was due long before.
func TestConfirmTimeoutIgnoresTheTimeWithoutMessages(t *testing.T) {
	const timeout = 200 * time.Millisecond
	b, p := start(t, producer.Config{ConfirmTimeout: timeout})
	b.HoldConfirms()
	r := publish(t, b, p, "a")
	time.Sleep(timeout / 2) // the time runs
	b.ReleaseConfirms()
	if err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * timeout)
	b.DropConfirms(true)
	began := time.Now()
	err := p.Publish(t.Context(), "", "orders", amqp.Publishing{})
	if took := time.Since(began); !errors.Is(err, producer.ErrConfirmTimeout) || took < timeout {
		t.Errorf("Publish = %v after %v, want ErrConfirmTimeout after %v", err, took, timeout)
	}
	if got := stored(b); len(got) != 2 {
		t.Errorf("stored %q, want each message once", got)
	}
	b.DropConfirms(false)
}

func TestCloseSendsWhatIsInFlightAndThenRefuses(t *testing.T) {
	b, p := start(t, producer.Config{})
	b.HoldConfirms()
	r := publish(t, b, p, "m")
	closed := make(chan error, 1)
	go func() { closed <- p.Close(t.Context()) }()
	b.ReleaseConfirms()
	if err := errors.Join(<-closed, r.Wait(t.Context())); err != nil {
		t.Error(err)
	}
	if err := p.Publish(t.Context(), "", "orders", amqp.Publishing{}); !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, producer.ErrClosed) {
		t.Errorf("Publish after Close = %v", err)
	}
}
