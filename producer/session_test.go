package producer

import (
	"log/slog"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestBlameFallsOnWhatTheBrokerNames(t *testing.T) {
	long := strings.Repeat("x", 230)
	to := func(exchange string) *Receipt {
		r := newReceipt(t.Context(), 0)
		r.msg.Exchange = exchange
		return r
	}
	lost := []*Receipt{to("orders"), to("orders.eu"), to(""), to(long)}
	server := func(code int, reason string) *amqp.Error {
		return &amqp.Error{Code: code, Reason: reason, Server: true}
	}
	for name, c := range map[string]struct {
		reason *amqp.Error
		want   string // for each of lost, whether it is blamed
	}{
		"link lost":            {&amqp.Error{Code: 501, Reason: "EOF"}, "----"},
		"closed in order":      {nil, "----"},
		"operator":             {server(320, "CONNECTION_FORCED - bye"), "----"},
		"missing exchange":     {server(404, "NOT_FOUND - no exchange 'orders' in vhost '/'"), "X---"},
		"the longer name":      {server(404, "NOT_FOUND - no exchange 'orders.eu' in vhost '/'"), "-X--"},
		"no permission":        {server(403, "ACCESS_REFUSED - write access to exchange 'orders' in vhost '/' refused for user 'u'"), "X---"},
		"default exchange":     {server(403, "ACCESS_REFUSED - write access to exchange '' in vhost"), "--X-"},
		"cut off in the name":  {server(403, "ACCESS_REFUSED - write access to exchange '"+long[:200]+"..."), "---X"},
		"somebody else's name": {server(404, "NOT_FOUND - no exchange 'other' in vhost '/'"), "XXXX"},
		"names nothing":        {server(406, "PRECONDITION_FAILED - invalid expiration"), "XXXX"},
		"bad frame":            {server(501, "FRAME_ERROR"), "XXXX"},
	} {
		blamed := blame(c.reason, lost)
		got := ""
		for _, r := range lost {
			if blamed(r) {
				got += "X"
			} else {
				got += "-"
			}
		}
		if got != c.want {
			t.Errorf("%s: blamed %s, want %s", name, got, c.want)
		}
	}
}

func TestBreakdownsOfTheBrokerOverOneMessageEnd(t *testing.T) {
	r := newReceipt(t.Context(), 0)
	for i := 1; i <= maxStrikes; i++ {
		if blamed := blame(&amqp.Error{Code: 541, Server: true}, []*Receipt{r})(r); blamed != (i == maxStrikes) {
			t.Errorf("after %d breakdowns blamed: %v", i, blamed)
		}
	}
}

// amqp091-go fails what is outstanding in no order.
func TestLostMessagesAreSentAgainInTheirOrder(t *testing.T) {
	cfg := Config{MaxInFlight: 10, MaxInFlightBytes: 100, Logger: slog.New(slog.DiscardHandler)}
	s := &session{p: &Producer{cfg: cfg, ctx: t.Context(), window: newWindow(cfg)}}
	var all []*Receipt
	for i := range 6 {
		r := newReceipt(t.Context(), 1)
		s.p.window.submit(r, false)
		all = append(all, r)
		if i < 5 && !s.p.window.claim(r) {
			t.Fatal("a queued message cannot be claimed")
		}
	}
	for i, r := range all[:3] {
		r.confirm = &amqp.DeferredConfirmation{DeliveryTag: uint64(i + 1)}
	}
	s.lost = []*Receipt{all[3], all[2], all[0], all[1]} // the fourth failed in sending
	s.unsent = all[4]
	s.dispose(&amqp.Error{Code: 501, Reason: "EOF"})
	for i, r := range s.p.window.queue.all() {
		if r != all[i] {
			t.Fatalf("place %d in the queue is another message's", i)
		}
	}
	if all[4].unknown != nil || all[3].unknown == nil {
		t.Error("unknown is the outcome of what was handed over, and of nothing else")
	}
}
