package topology

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
)

func TestConflictIsReadFromTheBrokersText(t *testing.T) {
	const p = "PRECONDITION_FAILED - inequivalent arg "
	for _, test := range []struct{ name, text, attribute, has, want string }{
		{"Q", p + "'x-message-ttl' for queue 'Q' in vhost '/': received '1' but current is '60000'", "x-message-ttl", "60000", "1"},
		{"Q", p + "'x-message-ttl' for queue 'Q' in vhost '/': received none but current is the value '60000' of type 'long'", "x-message-ttl", "60000", "none"},
		{"Q", p + "'x-max-length' for queue 'Q' in vhost '/': received the value '5' of type 'long' but current is none", "x-max-length", "none", "5"},
		{"Q", p + "'x-dead-letter-exchange' for queue 'Q' in vhost '/': received the value '' of type 'longstr' but current is none", "x-dead-letter-exchange", "none", ""},
		{"Q", p + "'x-queue-type' for queue 'Q' in vhost '/': received 'classic' but current is 'quorum'", "x-queue-type", "quorum", "classic"},
		{"Q", p + "'durable' for queue 'Q' in vhost '/': received 'true' but current is 'false'", "durable", "false", "true"},
		{"X", p + "'type' for exchange 'X' in vhost '/': received ''x-modulus-hash'' but current is 'direct'", "type", "direct", "x-modulus-hash"},
		{"q in vhost '/': received '1' but", p + "'x-expires' for queue 'q in vhost '/': received '1' but' in vhost '/': received '2' but current is '3'", "x-expires", "3", "2"},
		{"Q", p + "'x-overflow' for queue 'Q' in vhost 'it's': received 'drop-head' but current is 'reject-pu...", "x-overflow", "reject-pu…", "drop-head"},
		{"Q", p + "'x-overflow' for queue 'Q' in vhost '/': received 'drop-...", "x-overflow", "…", "drop-…"},
		{"Qqqqq", p + "'x-overflow' for queue 'Qqq...", "x-overflow", "…", "…"},
	} {
		attribute, want, has, ok := parseConflict(test.text, test.name)
		if !ok || attribute != test.attribute || has != test.has || want != test.want {
			t.Errorf("%s\n got %q: has %q, want %q (%v)\nwant %q: has %q, want %q", test.text, attribute, has, want, ok, test.attribute, test.has, test.want)
		}
	}
}

func TestRefusalIsTyped(t *testing.T) {
	q, x := object{"queue", "orders"}, object{"exchange", "orders"}
	refused := func(code int, text string) *amqp.Error { return &amqp.Error{Code: code, Reason: text, Server: true} }
	ttl := refused(406, "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'orders' in vhost '/': received '5' but current is '6'")
	durable := refused(406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'orders' in vhost '/': received 'true' but current is 'false'")
	kind := refused(406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'orders' in vhost '/': received 'topic' but current is 'direct'")
	locked := refused(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'orders' in vhost '/'")
	for _, test := range []struct {
		o         object
		exclusive bool
		err       *amqp.Error
		want      string
	}{
		{q, false, ttl, `topology: queue "orders": x-message-ttl is 6 on the broker and 5 in the declaration; change the declaration`},
		{q, false, durable, `set Type: topology.Classic and Transient: true to share it`},
		{x, false, kind, `topology: exchange "orders": type is direct on the broker and topic in the declaration; `},
		{q, false, locked, `topology: queue "orders": exclusive is true on the broker and false in the declaration; `},
		{q, true, locked, `and true in the declaration; use another name`},
		{q, false, refused(406, "PRECONDITION_FAILED - something new"), `topology: queue "orders": 406 PRECONDITION_FAILED - something new`},
		{q, false, refused(403, "ACCESS_REFUSED - no"), `topology: queue "orders": 403 ACCESS_REFUSED - no; grant`},
		{q, false, refused(404, "NOT_FOUND - no exchange 'x' in vhost '/'"), `declare the missing object first`},
	} {
		err := refusal(test.o, test.exclusive, test.err)
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("refusal = %q, want %q in it", err, test.want)
		}
		if !errors.Is(err, test.err) {
			t.Errorf("%q does not wrap the broker's error", err)
		}
		if amqperr.IsPermanent(err) {
			t.Errorf("%q calls itself permanent, though an operator can heal it", err)
		}
	}
}

// What a broker says may hold anything: names and values are not escaped there.
func TestS93ErrorsAreOneLineAndQuoteTheBroker(t *testing.T) {
	const bad = "a\nb\x1b[31m\r\u2028\xff\u202e"
	q := object{"queue", bad}
	refused := func(code int, text string) *amqp.Error { return &amqp.Error{Code: code, Reason: text, Server: true} }
	for _, err := range []error{
		refusal(q, false, refused(406, "PRECONDITION_FAILED - inequivalent arg '"+bad+"' for queue '"+bad+"' in vhost '/': received '"+bad+"' but current is '"+bad+"'")),
		refusal(q, false, refused(406, "PRECONDITION_FAILED - inequivalent arg 'x' for exchange '"+bad+"' in vhost '/': received none but current is the value '"+bad+"' of type 'longstr'")),
		refusal(q, false, refused(405, "RESOURCE_LOCKED - "+bad)),
		refusal(q, false, refused(403, "ACCESS_REFUSED - "+bad)),
		&DeclareError{Object: q.String(), Err: errors.New(bad)},
		absent(q, []string{place("Queues", 0, bad) + ".DeadLetter.RoutingKey"}, refused(404, "NOT_FOUND - no queue '"+bad+"' in vhost '/'")),
		absent(q, nil, refused(404, "NOT_FOUND - no queue '"+bad+"' in vhost '/'")),
		absent(q, nil, refused(404, "NOT_FOUND - "+bad)),
	} {
		for _, r := range err.Error() {
			if !strconv.IsPrint(r) {
				t.Errorf("%q holds %q", err, r)
				break
			}
		}
	}
	conflict := refusal(object{"queue", "q"}, false, refused(406, "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': received none but current is the value 'a\nb' of type 'longstr'"))
	if c, ok := errors.AsType[*ConflictError](conflict); !ok || c.Has != "a\nb" || !strings.Contains(c.Error(), `is a\nb on the broker`) {
		t.Errorf("%#v, want the value as it is in Has and escaped in the text", conflict)
	}
}

func TestQueueOfANodeThatIsDownIsNotMissing(t *testing.T) {
	verify := passive("queue", "orders").refusal
	var missing *MissingError
	if err := verify(&amqp.Error{Code: 404, Reason: "NOT_FOUND - no queue 'orders' in vhost '/'"}); !errors.As(err, &missing) {
		t.Errorf("got %v, want a MissingError", err)
	}
	down := &amqp.Error{Code: 404, Reason: "NOT_FOUND - home node 'rabbit@a' of durable queue 'orders' in vhost '/' is down or inaccessible"}
	if err := verify(down); errors.As(err, &missing) {
		t.Errorf("got %v, want a DeclareError", err)
	}
}

func TestCauseOfALostConnectionIsPreferred(t *testing.T) {
	forced := &amqp.Error{Code: 320, Reason: "CONNECTION_FORCED"}
	if got := cause([]error{nil, amqp.ErrClosed, forced, amqp.ErrClosed}); got != forced {
		t.Errorf("cause = %v, want %v", got, forced)
	}
	if got := cause([]error{nil, nil}); got != nil {
		t.Errorf("cause = %v, want nil", got)
	}
}

func FuzzParseConflict(f *testing.F) {
	f.Add("PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue 'Q' in vhost '/': received '1' but current is '2'", "Q", "1", "2")
	f.Add("inequivalent arg 'a' for queue 'Q' in vhost '/': received none but current is the value 'x' of type 'long'", "Q", "", "none")
	f.Add("inequivalent arg 'a' for ...", "", "reject-publish", "drop-head")
	f.Fuzz(func(t *testing.T, reason, name, want, has string) {
		if a, w, h, ok := parseConflict(reason, name); !ok && a+w+h != "" {
			t.Errorf("parseConflict(%q) = %q, %q, %q beside false", reason, a, w, h)
		}
		if strings.ContainsAny(want+has, " '.") {
			return // not escaped by the broker
		}
		reason = "inequivalent arg 'x' for queue '" + name + "' in vhost '/': received '" + want + "' but current is '" + has + "'"
		a, w, h, ok := parseConflict(reason, name)
		if !ok || a != "x" || w != want || h != has {
			t.Errorf("parseConflict(%q) = %q, %q, %q, %v", reason, a, w, h, ok)
		}
	})
}
