package soak

import "testing"

func TestJudgeFindsUnexplainedDuplicates(t *testing.T) {
	for name, c := range map[string]judgeCase{
		"delivered again without a fault": {func(t *builder) {
			t.confirm("m")
			t.process("m")
			t.redeliver("m")
		}, duplicated + ": delivered again"},
		"delivered again after a fault": {func(t *builder) { t.confirm("m"); t.process("m"); t.fault(1, Cut); t.redeliver("m") }, ""},
		"delivered again after a fault without the redelivered flag": {func(t *builder) {
			t.confirm("m")
			t.process("m")
			t.fault(1, Cut)
			t.redeliver("m").Redelivered = false
		}, duplicated + ": delivered again"},
		"delivered twice without the redelivered flag, handled once": {func(t *builder) {
			t.confirm("m")
			t.deliver(1, "w-1-X", "m", false)
			t.fault(1, Cut)
			t.process("m")
		}, duplicated + ": 2 times without the redelivered flag"},
		"more duplicates than unacknowledged deliveries": {func(t *builder) {
			t.confirm("m")
			t.process("m")
			t.fault(1, Cut)
			for range 11 {
				t.redeliver("m")
			}
		}, duplicated + ": 11 duplicates after 1 faults"},
		"dead letter delivered twice after a fault, redelivered only before it was dead-lettered": {func(t *builder) {
			t.confirm("m")
			tag := t.deliver(1, "w-1-X", "m", true)
			t.handle("w-1-X", "m", tag, Reject).Redelivered = true
			t.wire(1, "Rejected", Wire{Tag: tag})
			t.fault(1, Cut)
			t.redeliverTo("d-1-X", "m").Redelivered = false
			t.redeliverTo("d-1-X", "m").Redelivered = false
		}, duplicated + ": delivered again"},
		"dead letter delivered twice after an outage": {func(t *builder) {
			t.confirm("m")
			tag := t.deliver(1, "w-1-X", "m", false)
			t.handle("w-1-X", "m", tag, Reject)
			t.wire(1, "Rejected", Wire{Tag: tag})
			t.fault(1, Kill)
			t.records[len(t.records)-2].Fault.Nodes = []int{0}
			t.redeliverTo("d-1-X", "m").Redelivered = false
			t.redeliverTo("d-1-X", "m").Redelivered = false
		}, ""},
		"delivered as often as sent": {func(t *builder) {
			t.publish("m")
			t.send(1, "m")
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.wire(2, "Confirmed", Wire{Tag: t.send(2, "m")})
			t.outcome("m", Confirmed)
			t.process("m")
			t.process("m")
			t.fault(1, Cut)
		}, ""},
		"delivered again after its Run returned nil": {func(t *builder) {
			t.wire(1, "Subscribed", Wire{Consumer: "w-1-X"})
			t.confirm("m")
			t.process("m")
			t.stopRun("w-1")
			t.wire(1, "ChannelClosed", Wire{})
			t.fault(1, Cut)
			t.open(2)
			t.redeliverTo("w-2-X", "m")
		}, misreported},
		"a second copy delivered while a Run held the first": {func(t *builder) {
			t.wire(1, "Subscribed", Wire{Consumer: "w-1-X"})
			t.confirm("m")
			t.fault(1, Cut)
			t.open(2)
			t.wire(1, "Delivered", Wire{MessageID: "m", Tag: 100, Consumer: "w-1-X", Redelivered: true})
			tag := t.deliver(2, "w-2-X", "m", true)
			t.handle("w-1-X", "m", 100, OK)
			t.wire(1, "Acked", Wire{Tag: 100})
			t.stopRun("w-1")
			t.wire(1, "ChannelClosed", Wire{})
			t.handle("w-2-X", "m", tag, OK).Redelivered = true
			t.wire(2, "Acked", Wire{Tag: tag})
		}, ""},
		"out of order without a fault": {func(t *builder) {
			for i, id := range []string{"m", "n"} {
				p := t.publish(id)
				p.Order, p.Seq = "o", i
				t.wire(1, "Confirmed", Wire{Tag: t.send(1, id)})
				t.outcome(id, Confirmed)
			}
			t.process("n")
			t.process("m")
		}, disordered},
	} {
		t.Run(name, c.test)
	}
}
