package retry_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/internal/history"
	"github.com/amqpkit/amqpkit/retry"
)

const s = time.Second

func TestAHandlerIsCalledByTheScheduleOfThePolicy(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  retry.Config
		want []time.Duration
	}{
		"wait queues":       {retry.Config{Policy: retry.Schedule(10*s, time.Minute, time.Hour)}, []time.Duration{10 * s, time.Minute, time.Hour}},
		"one tier, often":   {retry.Config{Policy: retry.Schedule(s).MaxAttempts(41)}, slices.Repeat([]time.Duration{s}, 40)},
		"in the process":    {retry.Config{Policy: retry.Schedule(s, 2*s), MaxInProcessDelay: 2 * s}, []time.Duration{s, 2 * s}},
		"both":              {retry.Config{Policy: retry.Schedule(s, time.Minute, 2*s, time.Hour), MaxInProcessDelay: 2 * s}, []time.Duration{s, time.Minute, 2 * s, time.Hour}},
		"never again":       {retry.Config{Policy: retry.Schedule(s).MaxAttempts(1)}, nil},
		"too old":           {retry.Config{Policy: retry.Schedule(10 * s).MaxAttempts(100).MaxAge(35 * s)}, []time.Duration{10 * s, 10 * s, 10 * s}},
		"full jitter, once": {retry.Config{Policy: retry.Schedule(time.Millisecond).Jitter(1)}, []time.Duration{time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.cfg, func(b *bench) {
				var got calls
				b.run(got.fail(errBoom))
				b.publish(amqp.Publishing{Body: []byte("m")})
				m := b.parked(2 * time.Hour)
				if gaps := got.gaps(); got.count() != len(c.want)+1 || !slices.Equal(gaps, c.want) {
					t.Errorf("%d calls, at distances of %v, want %v", got.count(), gaps, c.want)
				}
				for i, n := range got.attempts {
					if n != i+1 {
						t.Errorf("call %d is attempt %d", i+1, n)
					}
				}
				if n := m.Headers[history.HeaderAttempts]; n != int64(len(c.want)+1) {
					t.Errorf("it was parked after %v attempts, want %d", n, len(c.want)+1)
				}
			})
		})
	}
}

func TestAParkedMessageIsTheOriginalWithItsRecord(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10*s, 20*s)}, func(b *bench) {
		sent := time.Now().Truncate(s)
		body := "\x00\xff body"
		b.publish(amqp.Publishing{
			Headers:     amqp.Table{"tenant": "a", "x-delivery-count": int64(9), "x-death": []any{}, "x-first-death-queue": "q", "list": []any{int32(1), "two"}},
			ContentType: "application/json", ContentEncoding: "identity", DeliveryMode: amqp.Persistent, Priority: 3, CorrelationId: "c", ReplyTo: "answers",
			Expiration: "3600000", MessageId: "id", Timestamp: sent, Type: "order", UserId: "guest", AppId: "shop", Body: []byte(body),
		})
		type seen struct{ exchange, key, expiration string }
		var views []seen
		b.run(func(_ context.Context, d *consumer.Delivery) error {
			views = append(views, seen{d.Exchange, d.RoutingKey, d.Expiration})
			d.Body, d.Headers, d.MessageId = []byte("changed"), amqp.Table{"tenant": "changed"}, "changed" // the fields are the handler's
			return fmt.Errorf("order 7: %w", &strangeError{len(views)})
		})
		m := b.parked(time.Minute)
		if want := slices.Repeat([]seen{{"", "orders", "3600000"}}, 3); !slices.Equal(views, want) {
			t.Errorf("the handler saw %v, want each time %v", views, want[0])
		}
		if string(m.Body) != body || m.MessageID != "id" || m.ContentType != "application/json" || m.ContentEncoding != "identity" || m.DeliveryMode != 2 || m.Priority != 3 ||
			m.CorrelationID != "c" || m.ReplyTo != "answers" || !m.Timestamp.Equal(sent) || m.Type != "order" || m.AppID != "shop" {
			t.Errorf("parked %+v", m)
		}
		if m.Expiration != "" || m.UserID != "" {
			t.Errorf("parked with expiration %q and user id %q, which would act again", m.Expiration, m.UserID)
		}
		for name, want := range map[string]any{
			"tenant": "a", "list": []any{int32(1), "two"},
			history.HeaderAttempts: int64(3), history.HeaderReason: history.ReasonAttempts, history.HeaderQueue: "orders", history.HeaderExchange: "", history.HeaderKey: "orders",
			history.HeaderError: "order 7: strange 3", history.HeaderErrorType: "*fmt.wrapError",
			history.HeaderFirstFailure: sent.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
			history.HeaderLastFailure:  sent.Add(30 * s).UTC().Format("2006-01-02T15:04:05.000Z07:00"),
			history.HeaderExpiration:   "3600000", history.HeaderUserID: "guest",
		} {
			if !reflect.DeepEqual(m.Headers[name], want) {
				t.Errorf("header %s is %#v, want %#v", name, m.Headers[name], want)
			}
			delete(m.Headers, name)
		}
		entries, _ := m.Headers[history.HeaderHistory].([]any)
		if len(entries) != 3 || !strings.HasSuffix(fmt.Sprint(entries[1]), " attempt 2: order 7: strange 2") {
			t.Errorf("history %q", entries)
		}
		for _, name := range []string{history.HeaderHistory, history.HeaderHost, history.HeaderConsumer} {
			if m.Headers[name] == nil {
				t.Errorf("no header %s", name)
			}
			delete(m.Headers, name)
		}
		if len(m.Headers) != 0 {
			t.Errorf("and headers %v", m.Headers)
		}
	})
}

type strangeError struct{ n int }

func (e *strangeError) Error() string { return fmt.Sprintf("strange %d", e.n) }

var (
	errGone  = errors.New("gone")
	errStock = errors.New("out of stock")
)

func TestEachErrorHasItsRule(t *testing.T) {
	rules := []retry.Rule{
		retry.OnError(errGone, retry.Discard),
		retry.OnType[*strangeError](retry.Park),
		retry.OnError(errStock, retry.Schedule(time.Hour).MaxAttempts(2)),
		retry.When("anything about money", func(err error) bool { return strings.Contains(err.Error(), "money") }, retry.Schedule(30*s)),
	}
	type story struct {
		gaps []time.Duration
		why  any // nil: not parked
	}
	for name, c := range map[string]struct {
		handler consumer.Handler
		want    story
	}{
		"sentinel":  {fails(fmt.Errorf("order: %w", errGone)), story{}},
		"type":      {fails(fmt.Errorf("order: %w", &strangeError{})), story{nil, history.ReasonRule}},
		"schedule":  {fails(errStock), story{[]time.Duration{time.Hour}, history.ReasonAttempts}},
		"predicate": {fails(errors.New("no money")), story{[]time.Duration{30 * s}, history.ReasonAttempts}},
		"none":      {fails(errBoom), story{[]time.Duration{10 * s, 40 * s}, history.ReasonAttempts}},

		"permanent":                {fails(amqperr.Permanent(errBoom)), story{nil, history.ReasonPermanent}},
		"permanent, with a rule":   {fails(amqperr.Permanent(errStock)), story{nil, history.ReasonPermanent}},
		"permanent, and discarded": {fails(amqperr.Permanent(errGone)), story{}},
		"permanent by itself":      {fails(&amqperr.FieldError{Field: "Amount"}), story{nil, history.ReasonPermanent}},
		"rejected":                 {fails(consumer.Reject(errBoom)), story{nil, history.ReasonRejected}},
		"undecodable":              {consumer.JSON(func(context.Context, int) error { return nil }), story{nil, history.ReasonRejected}},
		"after, a tier":            {fails(retry.After(30*s, errBoom)), story{[]time.Duration{30 * s, 30 * s}, history.ReasonAttempts}},
		"after, between tiers":     {fails(retry.After(11*s, errBoom)), story{[]time.Duration{20 * s, 20 * s}, history.ReasonAttempts}},
		"after, at once":           {fails(retry.After(-s, errBoom)), story{[]time.Duration{10 * s, 10 * s}, history.ReasonAttempts}},
		"after, several tiers":     {fails(retry.After(61*time.Minute, errBoom)), story{[]time.Duration{61 * time.Minute, 61 * time.Minute}, history.ReasonAttempts}},
		"panic":                    {func(context.Context, *consumer.Delivery) error { panic("at the disco") }, story{[]time.Duration{10 * s, 40 * s}, history.ReasonAttempts}},
		"panic with a Reject":      {func(context.Context, *consumer.Delivery) error { panic(consumer.Reject(errBoom)) }, story{[]time.Duration{10 * s, 40 * s}, history.ReasonAttempts}},
		"rejected, for a panic":    {fails(consumer.Reject(&consumer.PanicError{Value: "p"})), story{nil, history.ReasonRejected}},
		"rejected, not requeued":   {fails(consumer.Reject(consumer.Requeue(s))), story{nil, history.ReasonRejected}},
		"success":                  {fails(nil), story{}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, retry.Config{Policy: retry.Schedule(10*s, 40*s), Rules: rules}, func(b *bench) {
				var got calls
				b.run(func(ctx context.Context, d *consumer.Delivery) error {
					_ = got.fail(nil)(ctx, d)
					return c.handler(ctx, d)
				})
				b.publish(amqp.Publishing{Body: []byte("{")})
				var parked []any
				for _, m := range b.messages("orders.parked", 5*time.Hour) {
					parked = append(parked, m.Headers[history.HeaderReason])
				}
				var want []any
				if c.want.why != nil {
					want = append(want, c.want.why)
				}
				gaps := got.gaps()
				if !slices.Equal(parked, want) || !slices.Equal(gaps, c.want.gaps) {
					t.Errorf("parked for %v, calls at distances of %v, want %v", parked, gaps, c.want)
				}
				for _, q := range b.Queues() {
					if q.Name != "orders.parked" && q.Ready+q.Unacked != 0 {
						t.Errorf("something is left in %+v", q)
					}
				}
			})
		})
	}
}

func fails(err error) consumer.Handler {
	return func(context.Context, *consumer.Delivery) error { return err }
}

// The reason may be any error, also one that would be a result by itself.
func TestTheReasonOfAPostponementIsNotAResult(t *testing.T) {
	for name, reason := range map[string]error{
		"a rejection": consumer.Reject(errBoom), "a panic": &consumer.PanicError{Value: "p"}, "the end of a ctx": context.Canceled,
		"permanent": amqperr.Permanent(errBoom), "a failure": consumer.Fail(errBoom),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
				var got calls
				results := []error{fmt.Errorf("not yet: %w", consumer.Requeue(s, reason)), consumer.Requeue(s, reason), nil}
				b.run(func(ctx context.Context, d *consumer.Delivery) error { return got.fail(results[got.count()])(ctx, d) })
				b.publish(amqp.Publishing{})
				left := b.messages("orders.parked", time.Hour)
				if want := []time.Duration{s, s}; len(left) != 0 || !slices.Equal(got.gaps(), want) {
					t.Errorf("%d parked, calls at distances of %v, want none and %v", len(left), got.gaps(), want)
				}
			})
		})
	}
}

func TestAPostponedMessageHasNotFailed(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s)}, func(b *bench) {
		var got calls
		results := []error{consumer.Requeue(s), consumer.Requeue(s), errBoom, nil}
		b.run(func(ctx context.Context, d *consumer.Delivery) error {
			return got.fail(results[got.count()])(ctx, d)
		})
		b.publish(amqp.Publishing{})
		if left := b.messages("orders.parked", time.Minute); len(left) != 0 || !slices.Equal(got.attempts, []int{1, 1, 1, 2}) {
			t.Errorf("%d are parked after attempts %v, want none after 1, 1, 1, 2", len(left), got.attempts)
		}
	})
}

// With one worker, a waiting message must not occupy it.
func TestNothingWaitsBehindAFailedMessage(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(time.Hour)}, func(b *bench) {
		var bad, good calls
		b.run(func(ctx context.Context, d *consumer.Delivery) error {
			if string(d.Body) == "bad" {
				return bad.fail(errBoom)(ctx, d)
			}
			return good.fail(nil)(ctx, d)
		})
		start := time.Now()
		for range 20 {
			b.publish(amqp.Publishing{Body: []byte("bad")})
			b.publish(amqp.Publishing{Body: []byte("good")})
		}
		b.messages("orders", s)
		if n := good.count(); n != 20 || good.at[19].Sub(start) > 100*time.Millisecond {
			t.Errorf("%d of 20 were handled at once", n)
		}
		if n := len(b.messages("orders.parked", 2*time.Hour)); n != 20 || bad.count() != 40 {
			t.Errorf("%d of 20 are parked after %d calls, want 40", n, bad.count())
		}
	})
}

// With a key, delays in the worker keep back messages with the same key, and no others.
func TestADelayInTheWorkerKeepsBackItsKey(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(s, s), MaxInProcessDelay: s}, func(b *bench) {
		var mu sync.Mutex
		order := map[string][]string{}
		first := map[string]time.Duration{}
		for _, body := range []string{"a1", "a2", "b1", "b2"} {
			b.publish(amqp.Publishing{Body: []byte(body)})
		}
		start := time.Now()
		b.run(func(ctx context.Context, d *consumer.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			body := string(d.Body)
			order[body[:1]] = append(order[body[:1]], body)
			if _, ok := first[body]; !ok {
				first[body] = time.Since(start)
			}
			if body == "a1" && retry.Attempt(ctx) < 3 {
				return errBoom
			}
			return nil
		}, func(c *consumer.Config) {
			c.Workers, c.Prefetch = 2, 10
			c.Key = func(d *consumer.Delivery) string { return string(d.Body[:1]) }
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := "map[a:[a1 a1 a1 a2] b:[b1 b2]]"; fmt.Sprint(order) != want || first["b2"] > 100*time.Millisecond || first["a2"] < 2*s {
			t.Errorf("handled %v, at first after %v, want %s, with b2 at once", order, first, want)
		}
	})
}

// The delay beyond the one that is too long is used when a rule's policy has led there.
func TestEachDelayThatPoliciesTogetherCanReachHasItsQueue(t *testing.T) {
	rule := retry.OnError(errStock, retry.Schedule(30*s).MaxAttempts(3))
	bubble(t, retry.Config{Policy: retry.Schedule(10*s, 2*time.Hour, 3*s).MaxAge(time.Hour), Rules: []retry.Rule{rule}}, func(b *bench) {
		var got calls
		results := []error{errBoom, errStock, errBoom, errBoom}
		b.run(func(ctx context.Context, d *consumer.Delivery) error { return got.fail(results[got.count()])(ctx, d) })
		b.publish(amqp.Publishing{})
		if b.parked(time.Hour); !slices.Equal(got.gaps(), []time.Duration{10 * s, 30 * s, 3 * s}) {
			t.Errorf("calls at distances of %v, want 10, 30 and 3 s", got.gaps())
		}
	})
}

// A third of the default consumer timeout, whatever After asks for.
func TestAWorkerKeepsAMessageForTenMinutesAtMost(t *testing.T) {
	policy := retry.Schedule(s).MaxAttempts(30)
	for name, c := range map[string]struct {
		rules []retry.Rule
		calls int
		why   string
	}{
		"with wait queues":    {[]retry.Rule{retry.OnError(errStock, retry.Schedule(5*time.Minute))}, 30, history.ReasonAttempts},
		"without wait queues": {nil, 11, history.ReasonAfter},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, retry.Config{Policy: policy, Rules: c.rules, MaxInProcessDelay: time.Minute}, func(b *bench) {
				var got calls
				b.run(got.fail(retry.After(time.Minute, errBoom)))
				b.publish(amqp.Publishing{})
				synctest.Wait()
				time.Sleep(11*time.Minute - s)
				synctest.Wait()
				if q, _ := b.Queue("orders.wait.5m"); (q.Ready == 1) != (c.rules != nil) || got.count() != 11 {
					t.Errorf("after eleven minutes %d messages wait in the queue, after %d calls", q.Ready, got.count())
				}
				if m := b.parked(10 * time.Hour); got.count() != c.calls || m.Headers[history.HeaderReason] != c.why {
					t.Errorf("parked after %d calls because of %v, want %d and %v", got.count(), m.Headers[history.HeaderReason], c.calls, c.why)
				}
			})
		})
	}
}

type brittleError struct{ text string }

func (e *brittleError) Error() string { return e.text } // panics if e is nil

// Such a failure is counted and parked like any other.
func TestAnErrorOrARuleThatPanicsKeepsToThePolicy(t *testing.T) {
	anger := retry.When("anger", func(error) bool { panic("in a rule") }, retry.Discard)
	for name, c := range map[string]struct {
		rules []retry.Rule
		err   error
	}{
		"a typed nil": {nil, (*brittleError)(nil)},
		"a rule":      {[]retry.Rule{anger}, errBoom},
		"both":        {[]retry.Rule{anger}, (*brittleError)(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, retry.Config{Policy: retry.Schedule(s), Rules: c.rules}, func(b *bench) {
				var got calls
				b.run(got.fail(c.err))
				b.publish(amqp.Publishing{Body: []byte("m")})
				if m := b.parked(time.Minute); got.count() != 2 || m.Headers[history.HeaderAttempts] != int64(2) {
					t.Errorf("%d calls, parked after %v attempts; want 2", got.count(), m.Headers[history.HeaderAttempts])
				}
			})
		})
	}
}

func TestAPanicInAMiddlewareIsAFailedAttempt(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(s)}, func(b *bench) {
		var got calls
		b.run(got.fail(nil), func(c *consumer.Config) {
			c.Middleware = append(c.Middleware, func(next consumer.Handler) consumer.Handler {
				return func(ctx context.Context, d *consumer.Delivery) error {
					_ = next(ctx, d)
					panic("in a middleware")
				}
			})
		})
		b.publish(amqp.Publishing{})
		if m := b.parked(time.Minute); got.count() != 2 || m.Headers[history.HeaderAttempts] != int64(2) {
			t.Errorf("%d calls, parked after %v attempts; want 2", got.count(), m.Headers[history.HeaderAttempts])
		}
	})
}

// The attempts continue with the redelivery, and only with it.
func TestAWorkerEndsTheAttemptsAtAStaleDelivery(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(10 * s).MaxAttempts(4), MaxInProcessDelay: 10 * s}, func(b *bench) {
		var got calls
		b.run(got.fail(errBoom), func(c *consumer.Config) { c.Workers = 2 })
		b.publish(amqp.Publishing{})
		time.Sleep(5 * s)
		b.DropConnections()
		if b.parked(2 * time.Minute); !slices.Equal(got.attempts, []int{1, 1, 2, 3, 4}) {
			t.Errorf("attempts %v, want 1 twice, and then 2, 3 and 4", got.attempts)
		}
	})
}

// A Timeout belongs around a single attempt. Around the middleware it must not repeat the attempts indefinitely.
func TestATimeoutAroundTheMiddlewareEndsWithThePolicy(t *testing.T) {
	bubble(t, retry.Config{Policy: retry.Schedule(20*s, 20*s), MaxInProcessDelay: 20 * s}, func(b *bench) {
		var got calls
		b.run(got.fail(errBoom), func(c *consumer.Config) {
			c.Middleware = append([]consumer.Middleware{consumer.Timeout(30 * s)}, c.Middleware...)
		})
		b.publish(amqp.Publishing{Body: []byte("m")})
		if b.parked(time.Hour); got.count() != 3 {
			t.Errorf("%d calls, want 3", got.count())
		}
	})
}
