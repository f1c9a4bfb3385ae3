package soak

import "testing"

func TestJudgeFindsFalseSettlements(t *testing.T) {
	for name, c := range map[string]judgeCase{
		"acknowledged before the handler returned": {func(t *builder) {
			t.confirm("m")
			tag := t.deliver(1, "w-1-X", "m", false)
			t.wire(1, "Acked", Wire{Tag: tag})
			t.handle("w-1-X", "m", tag, OK)
		}, falseSettled},
		"acknowledged although the handler failed": {func(t *builder) {
			t.confirm("m")
			t.process("m")
			tag := t.deliver(1, "w-1-X", "m", true)
			t.handle("w-1-X", "m", tag, Fail).Redelivered = true
			t.wire(1, "Acked", Wire{Tag: tag})
			t.fault(1, Cut)
		}, falseSettled},
		"acknowledged with the tag of a lost session": {func(t *builder) {
			t.confirm("m")
			t.confirm("n")
			tag := t.deliver(1, "w-1-X", "m", false)
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.wire(2, "Delivered", Wire{Tag: tag, Consumer: "w-1-Y", MessageID: "n"})
			t.handle("w-1-X", "m", tag, OK)
			t.wire(2, "Acked", Wire{Tag: tag})
			t.handle("w-1-Y", "n", tag, OK)
		}, falseSettled},
		"acknowledged but never delivered": {func(t *builder) { t.wire(1, "Acked", Wire{Tag: 7}) }, falseSettled},
		"settled twice": {func(t *builder) {
			t.confirm("m")
			t.process("m")
			t.wire(1, "Acked", Wire{Tag: t.number})
		}, falseSettled},
		"requeued without a handler call by a stopped Run": {func(t *builder) {
			t.confirm("m")
			tag := t.deliver(1, "w-1-X", "m", false)
			t.put(Record{Stop: &Stop{Run: "w-1"}})
			t.wire(1, "DeliveryNacked", Wire{Tag: tag, Requeue: true})
			tag = t.deliver(1, "w-2-X", "m", true)
			t.handle("w-2-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, ""},
		"requeued without a handler call by a running Run": {func(t *builder) {
			t.confirm("m")
			t.put(Record{Stop: &Stop{Run: "w-1"}})
			tag := t.deliver(1, "w-2-X", "m", false)
			t.wire(1, "DeliveryNacked", Wire{Tag: tag, Requeue: true})
			tag = t.deliver(1, "w-2-X", "m", true)
			t.handle("w-2-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, falseSettled},
		"requeued although its handler succeeded": {func(t *builder) {
			t.confirm("m")
			tag := t.deliver(1, "w-1-X", "m", false)
			t.put(Record{Stop: &Stop{Run: "w-1"}})
			t.handle("w-1-X", "m", tag, OK)
			t.wire(1, "DeliveryNacked", Wire{Tag: tag, Requeue: true})
		}, falseSettled},
		"a channel closed because of a settlement": {func(t *builder) {
			t.wire(1, "ChannelClosed", Wire{FromBroker: true, Code: 406, Text: "unknown delivery tag 7"})
			t.wire(1, "ChannelOpened", Wire{})
		}, refused},
	} {
		t.Run(name, c.test)
	}
}
