package soak

import (
	"fmt"
	"testing"
)

func TestJudgeFindsLostAndUnexpectedMessages(t *testing.T) {
	for name, c := range map[string]judgeCase{
		"confirmed and processed": {func(t *builder) { t.confirm("m"); t.process("m") }, ""},

		"confirmed but never delivered": {func(t *builder) { t.confirm("m") }, lost},
		"confirmed but never processed": {func(t *builder) {
			t.confirm("m")
			tag := t.deliver(1, "w-1-X", "m", false)
			t.handle("w-1-X", "m", tag, Fail)
			t.wire(1, "Rejected", Wire{Tag: tag, Requeue: true})
		}, lost},
		"confirmed by a queue that was deleted": {func(t *builder) {
			t.publish("m").Doomed = true
			t.wire(1, "Confirmed", Wire{Tag: t.send(1, "m")})
			t.outcome("m", Confirmed)
		}, ""},
		"rejected and processed as a dead letter": {func(t *builder) {
			t.confirm("m")
			tag := t.deliver(1, "w-1-X", "m", false)
			t.handle("w-1-X", "m", tag, Reject)
			t.wire(1, "Rejected", Wire{Tag: tag})
			tag = t.deliver(1, "d-1-X", "m", false)
			t.handle("d-1-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, ""},

		"not published but handled": {func(t *builder) {
			t.publish("m")
			t.outcome("m", NotPublished)
			t.send(1, "m")
			t.process("m")
		}, phantom},
		"not published but sent": {func(t *builder) { t.publish("m"); t.send(1, "m"); t.outcome("m", NotPublished) }, phantom},
		"returned but handled": {func(t *builder) {
			t.publish("m")
			tag := t.send(1, "m")
			t.wire(1, "Returned", Wire{MessageID: "m"})
			t.wire(1, "Confirmed", Wire{Tag: tag})
			t.outcome("m", Returned)
			t.process("m")
		}, phantom},
		"nacked but handled": {func(t *builder) {
			t.publish("m")
			t.wire(1, "Nacked", Wire{Tag: t.send(1, "m")})
			t.outcome("m", Nacked)
			t.process("m")
		}, phantom},

		"handled but never published":     {func(t *builder) { t.send(1, "m"); t.process("m") }, unexpected},
		"on the wire but never published": {func(t *builder) { t.send(1, "m") }, unexpected + ": on the wire"},
		"handled under another message id": {func(t *builder) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.send(1, "m")})
			t.outcome("m", Confirmed)
			t.process("m").MessageID = "other"
		}, unexpected},
		"handled under the producer's own message id": {func(t *builder) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.send(1, "own-1")})
			t.outcome("m", Confirmed).MessageID = "own-1"
			h := t.process("own-1")
			h.ID = "m"
		}, ""},
		"handled with another body": {func(t *builder) { t.confirm("m"); t.process("m").Sum = "x" }, corrupt},
		"passed to two handlers": {func(t *builder) {
			t.confirm("m")
			tag := t.deliver(1, "w-1-X", "m", false)
			t.handle("w-1-X", "m", tag, Fail)
			t.handle("w-1-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, unexpected},
		"a message left in a queue":    {func(t *builder) { t.put(Record{Queue: &Queue{Name: "work", Unacked: 1}}) }, unaccounted},
		"a publish without an outcome": {func(t *builder) { t.publish("m") }, unaccounted},
	} {
		t.Run(name, c.test)
	}
}

func TestJudgeFindsOutcomesThatTheWireDisproves(t *testing.T) {
	for name, c := range map[string]judgeCase{
		"confirmed without a confirm on the wire": {func(t *builder) { t.publish("m"); t.send(1, "m"); t.outcome("m", Confirmed); t.process("m") }, misreported},
		"nacked without a nack on the wire":       {func(t *builder) { t.publish("m"); t.send(1, "m"); t.outcome("m", Nacked) }, misreported},
		"returned without a return on the wire":   {func(t *builder) { t.publish("m"); t.send(1, "m"); t.outcome("m", Returned) }, misreported},
		"a confirm after the deadline": {func(t *builder) {
			p := t.publish("m")
			p.Deadline, p.Hasty = t.now, true
			tag := t.send(1, "m")
			t.outcome("m", Unconfirmed)
			t.wire(1, "Confirmed", Wire{Tag: tag})
		}, ""},
		"a return reported as confirmed": {func(t *builder) {
			t.publish("m").Doomed = true
			tag := t.send(1, "m")
			t.wire(1, "Returned", Wire{MessageID: "m"})
			t.wire(1, "Confirmed", Wire{Tag: tag})
			t.outcome("m", Confirmed)
		}, misreported + ": without a matching answer"},
		"a nack reported as unconfirmed": {func(t *builder) {
			t.publish("m")
			t.wire(1, "Nacked", Wire{Tag: t.send(1, "m")})
			t.outcome("m", Unconfirmed)
			t.fault(1, Cut)
		}, misreported},
		"a nack reported as unconfirmed just before the link is lost": {func(t *builder) {
			t.publish("m")
			t.wire(1, "Nacked", Wire{Tag: t.send(1, "m")})
			t.outcome("m", Unconfirmed)
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.fault(1, Cut)
		}, misreported},
		"nacked after an attempt of unknown outcome": {func(t *builder) {
			t.publish("m").Once = false
			t.send(1, "m")
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.wire(2, "Nacked", Wire{Tag: t.send(2, "m")})
			t.outcome("m", Nacked)
		}, misreported + ": means unconfirmed"},
		"unconfirmed after an attempt of unknown outcome and a nack": {func(t *builder) {
			p := t.publish("m")
			t.send(1, "m")
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.wire(2, "Nacked", Wire{Tag: t.send(2, "m")})
			t.outcome("m", Unconfirmed)
			p.Deadline = t.now
			t.fault(1, Cut)
		}, ""},
		"unconfirmed while the channel is open": {func(t *builder) { t.publish("m"); t.send(1, "m"); t.outcome("m", Unconfirmed); t.fault(1, Cut) }, misreported},
		"unconfirmed after the channel closed, without resending": {func(t *builder) {
			t.publish("m").Once = true
			t.send(1, "m")
			t.wire(1, "ChannelClosed", Wire{FromBroker: true, Code: 404})
			t.outcome("m", Unconfirmed)
			t.wire(1, "ChannelOpened", Wire{})
			t.fault(1, Cut)
		}, ""},
		"unconfirmed after the link closed, without a forwarded publish and without resending": {func(t *builder) {
			t.publish("m").Once = true
			t.wire(1, "LinkClosed", Wire{})
			t.outcome("m", Unconfirmed)
			t.open(2)
			t.fault(1, Cut)
		}, ""},
		"unconfirmed after ConfirmTimeout": {func(t *builder) {
			t.records[0].Settings.ConfirmTimeout = 10e9
			t.publish("m")
			t.send(1, "m")
			t.now += 10e9
			t.outcome("m", Unconfirmed)
			t.fault(1, Cut)
		}, ""},
		"more unconfirmed messages than can be in flight": {func(t *builder) {
			for i := range 11 {
				t.publish(fmt.Sprint(i)).Deadline = t.now
				t.outcome(fmt.Sprint(i), Unconfirmed)
			}
			t.fault(1, Cut)
		}, tooManyUnknown},
		"unconfirmed after the channel closed, with resending": {func(t *builder) {
			t.publish("m")
			t.send(1, "m")
			t.wire(1, "ChannelClosed", Wire{FromBroker: true, Code: 404})
			t.outcome("m", Unconfirmed)
			t.wire(1, "ChannelOpened", Wire{})
			t.fault(1, Cut)
		}, misreported},
		"a confirm that was not reported": {func(t *builder) {
			p := t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.send(1, "m")})
			t.now += 5e9
			p.Deadline = t.now
			t.outcome("m", Unconfirmed)
			t.fault(1, Cut)
		}, misreported + ": only at"},
		"a confirm that the client could not read before the link closed": {func(t *builder) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.send(1, "m")})
			t.wire(1, "LinkClosed", Wire{})
			t.now += 5e9
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.send(2, "m")})
			t.outcome("m", Confirmed)
			t.process("m")
		}, ""},
		"sent again although answered": {func(t *builder) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.send(1, "m")})
			t.outcome("m", Confirmed)
			t.process("m")
			t.now += 2e9
			t.wire(1, "ChannelClosed", Wire{})
			t.open(2)
			t.send(2, "m")
		}, misreported + ": although answered"},
		"sent twice on one channel": {func(t *builder) {
			t.publish("m")
			t.send(1, "m")
			t.wire(1, "Confirmed", Wire{Tag: t.send(1, "m")})
			t.outcome("m", Confirmed)
			t.process("m")
		}, misreported + ": twice on one channel"},
		"sent again while the old channel is used": {func(t *builder) {
			t.publish("m")
			t.send(1, "m")
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.send(2, "m")})
			t.outcome("m", Confirmed)
			t.process("m")
			t.link = 1
			t.confirm("n")
			t.process("n")
		}, misreported + ": used the old channel"},
		"sent again while the proxy still forwards frames of the closed link": {func(t *builder) {
			t.publish("m")
			t.publish("n")
			t.send(1, "m")
			t.put(Record{Closed: &Closed{Addr: "1"}})
			t.open(2)
			for _, id := range []string{"m", "n"} {
				t.wire(2, "Confirmed", Wire{Tag: t.send(2, id)})
				t.outcome(id, Confirmed)
			}
			t.send(1, "n")
			t.wire(1, "LinkClosed", Wire{})
			t.process("m")
			t.process("n")
		}, ""},
		"sent twice, without resending": {func(t *builder) {
			t.publish("m").Once = true
			t.send(1, "m")
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.send(2, "m")})
			t.outcome("m", Confirmed)
			t.process("m")
		}, misreported + ": its producer does not resend"},
	} {
		t.Run(name, c.test)
	}
}
