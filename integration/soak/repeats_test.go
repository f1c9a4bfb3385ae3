package soak

import "testing"

func TestJudgeFindsRepeatsWithoutReason(t *testing.T) {
	for name, c := range map[string]told{
		"delivered again, without a fault": {func(t *tale) {
			t.confirmed("m")
			t.processed("m")
			t.again("m")
		}, duplicated + ": delivered again"},
		"delivered again after a fault": {func(t *tale) { t.confirmed("m"); t.processed("m"); t.fault(1, Cut); t.again("m") }, ""},
		"delivered again after a fault, with nothing to show for it": {func(t *tale) {
			t.confirmed("m")
			t.processed("m")
			t.fault(1, Cut)
			t.again("m").Redelivered = false
		}, duplicated + ": delivered again"},
		"delivered afresh after a fault": {func(t *tale) {
			t.confirmed("m")
			t.delivered(1, "w-1-X", "m", false)
			t.fault(1, Cut)
			t.processed("m")
		}, duplicated + ": 2 times without the mark"},
		"delivered again more often than was held": {func(t *tale) {
			t.confirmed("m")
			t.processed("m")
			t.fault(1, Cut)
			for range 11 {
				t.again("m")
			}
		}, duplicated + ": 11 duplicates after 1 faults"},
		"a dead letter again after a fault, of what had been redelivered before it died": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", true)
			t.handled("w-1-X", "m", tag, Reject).Redelivered = true
			t.wire(1, "Rejected", Wire{Tag: tag})
			t.fault(1, Cut)
			t.againAt("d-1-X", "m").Redelivered = false
			t.againAt("d-1-X", "m").Redelivered = false
		}, duplicated + ": delivered again"},
		"a dead letter again after an outage": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.handled("w-1-X", "m", tag, Reject)
			t.wire(1, "Rejected", Wire{Tag: tag})
			t.fault(1, Kill)
			t.records[len(t.records)-2].Fault.Nodes = []int{0}
			t.againAt("d-1-X", "m").Redelivered = false
			t.againAt("d-1-X", "m").Redelivered = false
		}, ""},
		"delivered as often as sent": {func(t *tale) {
			t.publish("m")
			t.sent(1, "m")
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.sent(2, "m")})
			t.told("m", Confirmed)
			t.processed("m")
			t.processed("m")
			t.fault(1, Cut)
		}, ""},
		"delivered again, although a Run said that nothing will be": {func(t *tale) {
			t.wire(1, "Subscribed", Wire{Consumer: "w-1-X"})
			t.confirmed("m")
			t.processed("m")
			t.ended("w-1")
			t.wire(1, "ChannelClosed", Wire{})
			t.fault(1, Cut)
			t.open(2)
			t.againAt("w-2-X", "m")
		}, misreported},
		"another copy, delivered while a Run had the first": {func(t *tale) {
			t.wire(1, "Subscribed", Wire{Consumer: "w-1-X"})
			t.confirmed("m")
			t.fault(1, Cut)
			t.open(2)
			t.wire(1, "Delivered", Wire{MessageID: "m", Tag: 100, Consumer: "w-1-X", Redelivered: true})
			tag := t.delivered(2, "w-2-X", "m", true)
			t.handled("w-1-X", "m", 100, OK)
			t.wire(1, "Acked", Wire{Tag: 100})
			t.ended("w-1")
			t.wire(1, "ChannelClosed", Wire{})
			t.handled("w-2-X", "m", tag, OK).Redelivered = true
			t.wire(2, "Acked", Wire{Tag: tag})
		}, ""},
		"out of order, without a fault": {func(t *tale) {
			for i, id := range []string{"m", "n"} {
				p := t.publish(id)
				p.Order, p.Seq = "o", i
				t.wire(1, "Confirmed", Wire{Tag: t.sent(1, id)})
				t.told(id, Confirmed)
			}
			t.processed("n")
			t.processed("m")
		}, disordered},
	} {
		t.Run(name, c.test)
	}
}
