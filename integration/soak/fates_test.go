package soak

import (
	"fmt"
	"testing"
)

func TestJudgeFindsWhatBecameOfMessages(t *testing.T) {
	for name, c := range map[string]told{
		"all is well": {func(t *tale) { t.confirmed("m"); t.processed("m") }, ""},

		"confirmed and never delivered": {func(t *tale) { t.confirmed("m") }, lost},
		"confirmed and never processed": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.handled("w-1-X", "m", tag, Fail)
			t.wire(1, "Rejected", Wire{Tag: tag, Requeue: true})
		}, lost},
		"confirmed into a queue that was deleted": {func(t *tale) {
			t.publish("m").Doomed = true
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.told("m", Confirmed)
		}, ""},
		"rejected and processed as a dead letter": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.handled("w-1-X", "m", tag, Reject)
			t.wire(1, "Rejected", Wire{Tag: tag})
			tag = t.delivered(1, "d-1-X", "m", false)
			t.handled("d-1-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, ""},

		"not published, and handled": {func(t *tale) {
			t.publish("m")
			t.told("m", NotPublished)
			t.sent(1, "m")
			t.processed("m")
		}, phantom},
		"not published, and sent": {func(t *tale) { t.publish("m"); t.sent(1, "m"); t.told("m", NotPublished) }, phantom},
		"returned, and handled": {func(t *tale) {
			t.publish("m")
			tag := t.sent(1, "m")
			t.wire(1, "Returned", Wire{MessageID: "m"})
			t.wire(1, "Confirmed", Wire{Tag: tag})
			t.told("m", Returned)
			t.processed("m")
		}, phantom},
		"nacked, and handled": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Nacked", Wire{Tag: t.sent(1, "m")})
			t.told("m", Nacked)
			t.processed("m")
		}, phantom},

		"handled, and never published":     {func(t *tale) { t.sent(1, "m"); t.processed("m") }, unexpected},
		"on the wire, and never published": {func(t *tale) { t.sent(1, "m") }, unexpected + ": on the wire"},
		"handled under another message id": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.told("m", Confirmed)
			t.processed("m").MessageID = "other"
		}, unexpected},
		"handled under the producer's own message id": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "own-1")})
			t.told("m", Confirmed).MessageID = "own-1"
			h := t.processed("own-1")
			h.ID = "m"
		}, ""},
		"handled with another body": {func(t *tale) { t.confirmed("m"); t.processed("m").Sum = "x" }, corrupt},
		"given to two handlers": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.handled("w-1-X", "m", tag, Fail)
			t.handled("w-1-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, unexpected},
		"a message left in a queue":    {func(t *tale) { t.put(Record{Queue: &Queue{Name: "work", Unacked: 1}}) }, unaccounted},
		"a publisher that nobody told": {func(t *tale) { t.publish("m") }, unaccounted},
	} {
		t.Run(name, c.test)
	}
}

func TestJudgeFindsReportsThatTheWireDisproves(t *testing.T) {
	for name, c := range map[string]told{
		"confirmed without a confirm": {func(t *tale) { t.publish("m"); t.sent(1, "m"); t.told("m", Confirmed); t.processed("m") }, misreported},
		"a nack without one":          {func(t *tale) { t.publish("m"); t.sent(1, "m"); t.told("m", Nacked) }, misreported},
		"a return without one":        {func(t *tale) { t.publish("m"); t.sent(1, "m"); t.told("m", Returned) }, misreported},
		"a confirm that came after the end": {func(t *tale) {
			p := t.publish("m")
			p.Deadline, p.Hasty = t.now, true
			tag := t.sent(1, "m")
			t.told("m", Unconfirmed)
			t.wire(1, "Confirmed", Wire{Tag: tag})
		}, ""},
		"a return taken for a confirm": {func(t *tale) {
			t.publish("m").Doomed = true
			tag := t.sent(1, "m")
			t.wire(1, "Returned", Wire{MessageID: "m"})
			t.wire(1, "Confirmed", Wire{Tag: tag})
			t.told("m", Confirmed)
		}, misreported + ": which nothing on the wire says"},
		"a nack taken for unknown": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Nacked", Wire{Tag: t.sent(1, "m")})
			t.told("m", Unconfirmed)
			t.fault(1, Cut)
		}, misreported},
		"a nack taken for unknown, just before the link is lost": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Nacked", Wire{Tag: t.sent(1, "m")})
			t.told("m", Unconfirmed)
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.fault(1, Cut)
		}, misreported},
		"a nack, after an attempt of unknown outcome": {func(t *tale) {
			t.publish("m").Once = false
			t.sent(1, "m")
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.wire(2, "Nacked", Wire{Tag: t.sent(2, "m")})
			t.told("m", Nacked)
		}, misreported + ": makes it unconfirmed"},
		"unknown, after an attempt of unknown outcome and a nack": {func(t *tale) {
			p := t.publish("m")
			t.sent(1, "m")
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.wire(2, "Nacked", Wire{Tag: t.sent(2, "m")})
			t.told("m", Unconfirmed)
			p.Deadline = t.now
			t.fault(1, Cut)
		}, ""},
		"unknown, while all stands": {func(t *tale) { t.publish("m"); t.sent(1, "m"); t.told("m", Unconfirmed); t.fault(1, Cut) }, misreported},
		"unknown, its channel lost, to be sent once": {func(t *tale) {
			t.publish("m").Once = true
			t.sent(1, "m")
			t.wire(1, "ChannelClosed", Wire{FromBroker: true, Code: 404})
			t.told("m", Unconfirmed)
			t.wire(1, "ChannelOpened", Wire{})
			t.fault(1, Cut)
		}, ""},
		"unknown, its link lost before it was handed on, to be sent once": {func(t *tale) {
			t.publish("m").Once = true
			t.wire(1, "LinkClosed", Wire{})
			t.told("m", Unconfirmed)
			t.open(2)
			t.fault(1, Cut)
		}, ""},
		"unknown, its confirm overdue": {func(t *tale) {
			t.records[0].Settings.ConfirmTimeout = 10e9
			t.publish("m")
			t.sent(1, "m")
			t.now += 10e9
			t.told("m", Unconfirmed)
			t.fault(1, Cut)
		}, ""},
		"more unknown than can be in flight": {func(t *tale) {
			for i := range 11 {
				t.publish(fmt.Sprint(i)).Deadline = t.now
				t.told(fmt.Sprint(i), Unconfirmed)
			}
			t.fault(1, Cut)
		}, tooUnknown},
		"unknown, its channel lost, to be sent again": {func(t *tale) {
			t.publish("m")
			t.sent(1, "m")
			t.wire(1, "ChannelClosed", Wire{FromBroker: true, Code: 404})
			t.told("m", Unconfirmed)
			t.wire(1, "ChannelOpened", Wire{})
			t.fault(1, Cut)
		}, misreported},
		"a confirm that nobody told": {func(t *tale) {
			p := t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.now += 5e9
			p.Deadline = t.now
			t.told("m", Unconfirmed)
			t.fault(1, Cut)
		}, misreported + ": only at"},
		"a confirm that the client did not live to read": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.wire(1, "LinkClosed", Wire{})
			t.now += 5e9
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.sent(2, "m")})
			t.told("m", Confirmed)
			t.processed("m")
		}, ""},
		"sent again although answered": {func(t *tale) {
			t.publish("m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.told("m", Confirmed)
			t.processed("m")
			t.now += 2e9
			t.wire(1, "ChannelClosed", Wire{})
			t.open(2)
			t.sent(2, "m")
		}, misreported + ": although answered"},
		"sent twice on one channel": {func(t *tale) {
			t.publish("m")
			t.sent(1, "m")
			t.wire(1, "Confirmed", Wire{Tag: t.sent(1, "m")})
			t.told("m", Confirmed)
			t.processed("m")
		}, misreported + ": twice on one channel"},
		"sent again while the old channel is used": {func(t *tale) {
			t.publish("m")
			t.sent(1, "m")
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.sent(2, "m")})
			t.told("m", Confirmed)
			t.processed("m")
			t.link = 1
			t.confirmed("n")
			t.processed("n")
		}, misreported + ": while its channel was used"},
		"sent again while the proxy still hands on what the client had written": {func(t *tale) {
			t.publish("m")
			t.publish("n")
			t.sent(1, "m")
			t.put(Record{Closed: &Closed{Addr: "1"}})
			t.open(2)
			for _, id := range []string{"m", "n"} {
				t.wire(2, "Confirmed", Wire{Tag: t.sent(2, id)})
				t.told(id, Confirmed)
			}
			t.sent(1, "n")
			t.wire(1, "LinkClosed", Wire{})
			t.processed("m")
			t.processed("n")
		}, ""},
		"sent twice, to be sent once": {func(t *tale) {
			t.publish("m").Once = true
			t.sent(1, "m")
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.sent(2, "m")})
			t.told("m", Confirmed)
			t.processed("m")
		}, misreported + ": was to be sent once"},
	} {
		t.Run(name, c.test)
	}
}
