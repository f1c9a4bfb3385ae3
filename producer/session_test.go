package producer

import (
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
