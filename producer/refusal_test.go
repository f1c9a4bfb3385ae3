package producer

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func receiptOf(t *testing.T, m Message) *Receipt {
	t.Helper()
	r := newReceipt(t.Context(), 0)
	r.msg = m
	return r
}

// The texts are the ones of RabbitMQ 4.0.5 and 4.3.6.
func TestRefusalIsAttributedToTheMessagesThatItNames(t *testing.T) {
	long := strings.Repeat("x", 254)
	messages := []Message{
		{Exchange: "orders", Key: "new"},
		{Exchange: "orders.eu", Key: "new"},
		{Exchange: "", Key: "orders"},
		{Exchange: "L" + long, Key: strings.Repeat("k", 255)},
		{Exchange: "orders", Key: "old", Publishing: amqp.Publishing{Headers: amqp.Table{"CC": []any{"copy", int32(1)}, "BCC": []any{"blind"}}}},
		{Exchange: "it' in vhost '/", Key: "a' in exchange 'orders' in vhost '/"},
		{Exchange: "orders", Key: "secret\xe9\n"},
		{Exchange: "orders", Key: "new", Publishing: amqp.Publishing{UserId: "al'ice", Body: make([]byte, 7), Expiration: "5"}},
	}
	const refused, notFound, precondition = "ACCESS_REFUSED - ", "NOT_FOUND - ", "PRECONDITION_FAILED - "
	for name, c := range map[string]struct {
		code int
		text string
		want string // for each message, whether it is named
	}{
		"missing exchange":     {404, notFound + "no exchange 'orders' in vhost '/'", "X---X-XX"},
		"the longer name":      {404, notFound + "no exchange 'orders.eu' in vhost '/'", "-X------"},
		"a name with quotes":   {404, notFound + "no exchange 'it' in vhost '/' in vhost '/'", "-----X--"},
		"cut off in the name":  {404, notFound + "no exchange 'L" + long[:227] + "...", "---X----"},
		"cut off behind it":    {404, notFound + "no exchange 'orders' in vh...", "X---X-XX"},
		"another name":         {404, notFound + "no exchange 'other' in vhost '/'", "--------"},
		"no permission":        {403, refused + "write access to exchange 'orders' in vhost '/' refused for user 'u'", "X---X-XX"},
		"with a reason":        {403, refused + "write access to exchange 'orders.eu' in vhost '/' refused for user 'u' by backend b: no", "-X------"},
		"default exchange":     {403, refused + "write access to exchange 'amq.default' in vhost '/' refused for user 'u'", "--X-----"},
		"internal exchange":    {403, refused + "cannot publish to internal exchange 'orders.eu' in vhost '/'", "-X------"},
		"topic":                {403, refused + "write access to topic 'new' in exchange 'orders' in vhost '/' refused for user 'u'", "X------X"},
		"topic of a copy":      {403, refused + "write access to topic 'copy' in exchange 'orders' in vhost '/' refused for user 'u'", "----X---"},
		"topic of a blind one": {403, refused + "write access to topic 'blind' in exchange 'orders' in vhost '/' refused for user 'u'", "----X---"},
		"topic with quotes":    {403, refused + "write access to topic 'a' in exchange 'orders' in vhost '/' in exchange 'it' in vhost '/' in vhost '/' refused for user 'u'", "-----X--"},
		"topic not UTF-8":      {403, refused + "write access to topic 'secreté\n' in exchange 'orders' in vhost '/' refused for user 'u'", "------X-"},
		"topic cut off":        {403, refused + "write access to topic '" + strings.Repeat("k", 212) + "...", "---X----"},
		"user id":              {406, precondition + "user_id property set to 'al'ice' but authenticated user was 'u'", "-------X"},
		"expiration":           {406, precondition + "invalid expiration '5': no_integer", "-------X"},
		"size":                 {406, precondition + "message size 7 is larger than configured max size 5", "-------X"},
		"size as in 3.x":       {406, precondition + "message size 7 is larger than max size 5", "-------X"},
		"something else":       {406, precondition + "fast reply consumer does not exist", "--------"},
		"internal error":       {541, "INTERNAL_ERROR", "--------"},
		"nothing":              {404, "", "--------"},
	} {
		got := ""
		for _, m := range messages {
			if names(&amqp.Error{Code: c.code, Reason: c.text, Server: true}, receiptOf(t, m)) {
				got += "X"
			} else {
				got += "-"
			}
		}
		if got != c.want {
			t.Errorf("%s: named %s, want %s", name, got, c.want)
		}
	}
}

// lose closes a session with messages in flight and returns the outcome of each.
func lose(t *testing.T, cfg Config, reason *amqp.Error, earlier error, messages ...Message) (outcomes []error) {
	t.Helper()
	s := newSession(t.Context())
	s.p.cfg.NoResend = cfg.NoResend
	var rs []*Receipt
	for _, m := range messages {
		r := receiptOf(t, m)
		r.unknown = earlier
		s.p.window.submit(r, false)
		s.p.window.claim(r)
		rs, s.lost = append(rs, r), append(s.lost, r)
	}
	s.settleLost(reason)
	for _, r := range rs {
		select {
		case <-r.done:
			outcomes = append(outcomes, r.err)
		default:
			outcomes = append(outcomes, nil)
		}
	}
	return outcomes
}

func TestOnlyTheRefusedMessageIsAffected(t *testing.T) {
	reason := &amqp.Error{Code: 403, Reason: "ACCESS_REFUSED - write access to exchange 'b' in vhost '/' refused for user 'u'", Server: true}
	a, b := Message{Exchange: "a"}, Message{Exchange: "b"}
	for name, c := range map[string]struct {
		cfg      Config
		reason   *amqp.Error
		earlier  error
		messages []Message
		want     []error // nil: sent again
	}{
		"one":                {Config{}, reason, nil, []Message{a, b, a}, []error{nil, ErrNotPublished, nil}},
		"several":            {Config{}, reason, nil, []Message{a, b, b}, []error{nil, ErrUnconfirmed, ErrUnconfirmed}},
		"one, not resent":    {Config{NoResend: true}, reason, nil, []Message{a, b}, []error{ErrUnconfirmed, ErrNotPublished}},
		"unknown before":     {Config{}, reason, errors.New("link lost"), []Message{a, b}, []error{nil, ErrUnconfirmed}},
		"none of ours":       {Config{}, reason, nil, []Message{a, a}, []error{nil, nil}},
		"an operator":        {Config{}, &amqp.Error{Code: 320, Reason: "CONNECTION_FORCED - bye", Server: true}, nil, []Message{a, b}, []error{nil, nil}},
		"made up by library": {Config{}, &amqp.Error{Code: 403, Reason: reason.Reason}, nil, []Message{a, b}, []error{nil, nil}},
		"closed in order":    {Config{}, nil, nil, []Message{a, b}, []error{nil, nil}},
	} {
		for i, err := range lose(t, c.cfg, c.reason, c.earlier, c.messages...) {
			if !errors.Is(err, c.want[i]) || (err == nil) != (c.want[i] == nil) {
				t.Errorf("%s: message %d: %v, want %v", name, i, err, c.want[i])
			}
			if errors.Is(err, ErrNotPublished) && errors.Is(err, ErrUnconfirmed) {
				t.Errorf("%s: two outcomes at once: %v", name, err)
			}
		}
	}
}

// RabbitMQ breaks down (541) over some messages. The one that it breaks down over is found by sending it alone.
func TestAMessageThatBreaksTheBrokerIsFoundAndGivenUpAlone(t *testing.T) {
	s := newSession(t.Context())
	w := s.p.window
	var all []*Receipt
	for range 3 {
		r := newReceipt(t.Context(), 1)
		w.submit(r, false)
		all = append(all, r)
	}
	bad := all[1]
	for round := 1; ; round++ {
		s.lost = nil
		for r := w.head(); r != nil; r = w.head() {
			w.claim(r)
			s.lost = append(s.lost, r)
		}
		if len(s.lost) == 0 || round > 10 {
			break
		}
		if i := len(s.lost); round < maxFaults && i != 3 || round >= maxFaults && i != 1 {
			t.Fatalf("round %d: %d messages are in flight together", round, i)
		}
		if round >= maxFaults && s.lost[0] != bad {
			w.finish(s.lost[0], nil)
			continue
		}
		s.settleLost(&amqp.Error{Code: 541, Reason: "INTERNAL_ERROR", Server: true})
	}
	for i, r := range all {
		select {
		case <-r.done:
		default:
			t.Fatalf("message %d has no outcome", i)
		}
		if want := r == bad; errors.Is(r.err, ErrUnconfirmed) != want {
			t.Errorf("message %d: %v", i, r.err)
		}
	}
}

func TestARefusalAppliesForATimeThatDoublesWhenItIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rs refusals
		a, b := receiptOf(t, Message{Exchange: "a"}), receiptOf(t, Message{Exchange: "b"})
		missing := func(name string) *amqp.Error {
			return &amqp.Error{Code: 404, Reason: fmt.Sprintf("NOT_FOUND - no exchange '%s' in vhost '/'", name), Server: true}
		}
		for _, want := range []int{250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_000_000, 1_000_000} {
			rs.add(missing("a"), a, false, time.Now())
			if rs.find(a) == nil || rs.find(b) != nil {
				t.Error("the refusal does not apply to its exchange, or to another one")
			}
			rest := time.Duration(want) * time.Microsecond
			time.Sleep(rest - time.Nanosecond)
			if rs.find(a) == nil {
				t.Errorf("the refusal is forgotten before %d µs", want)
			}
			time.Sleep(time.Nanosecond)
			if rs.find(a) != nil {
				t.Errorf("the refusal applies for more than %d µs", want)
			}
		}
		rs.add(missing("a"), a, false, time.Now())
		if rs.exists(a); rs.find(a) != nil {
			t.Error("the refusal applies to an exchange that exists")
		}
		rs.add(missing("a"), a, false, time.Now())
		rs.add(missing("b"), b, true, time.Now())
		if rs.reconnected(); rs.find(a) != nil || rs.find(b) == nil {
			t.Error("a new connection begins with the wrong refusals")
		}
		if time.Sleep(2 * longestRefusal); rs.find(a) != nil || len(rs) != 0 {
			t.Error("old refusals are kept")
		}
		for i := range 2 * mostRefusals {
			rs.add(missing(fmt.Sprint(i)), nil, false, time.Now())
		}
		if len(rs) != mostRefusals || rs.find(receiptOf(t, Message{Exchange: fmt.Sprint(2*mostRefusals - 1)})) == nil {
			t.Errorf("%d refusals are kept, want the %d last ones", len(rs), mostRefusals)
		}
	})
}

// RabbitMQ cuts a reason off at 255 bytes. What is left of it may name messages that are allowed.
func TestARefusalThatIsCutOffAppliesToTheRefusedMessageOnly(t *testing.T) {
	long := strings.Repeat("x", 235)
	missing := "NOT_FOUND - no exchange '" + long + "1' in vhost '/'"
	denied := "ACCESS_REFUSED - write access to topic '" + long + "1' in exchange 'amq.topic' in vhost '/' refused for user 'u'"
	for reason, messages := range map[*amqp.Error][2]Message{
		{Code: 404, Reason: missing[:252] + "...", Server: true}: {{Exchange: long + "1"}, {Exchange: long + "2"}},
		{Code: 403, Reason: denied[:252] + "...", Server: true}:  {{Exchange: "amq.topic", Key: long + "1"}, {Exchange: "amq.topic", Key: long + "2"}},
	} {
		refused, allowed := receiptOf(t, messages[0]), receiptOf(t, messages[1])
		var rs refusals
		rs.add(reason, refused, false, time.Now())
		if rs.find(refused) == nil || rs.find(allowed) != nil {
			t.Errorf("%d: the refusal does not apply to its message, or to another one", reason.Code)
		}
		rs = nil
		if rs.add(reason, nil, false, time.Now()); rs.find(refused) != nil || rs.find(allowed) != nil {
			t.Errorf("%d: a refusal that may mean several messages applies to one", reason.Code)
		}
	}
}
