package soak

import "testing"

func TestJudgeFindsFalseSettlements(t *testing.T) {
	for name, c := range map[string]told{
		"acknowledged before the handler returned": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.wire(1, "Acked", Wire{Tag: tag})
			t.handled("w-1-X", "m", tag, OK)
		}, falseSettled},
		"acknowledged although the handler failed": {func(t *tale) {
			t.confirmed("m")
			t.processed("m")
			tag := t.delivered(1, "w-1-X", "m", true)
			t.handled("w-1-X", "m", tag, Fail).Redelivered = true
			t.wire(1, "Acked", Wire{Tag: tag})
			t.fault(1, Cut)
		}, falseSettled},
		"acknowledged under a lost session's tag": {func(t *tale) {
			t.confirmed("m")
			t.confirmed("n")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.wire(1, "LinkClosed", Wire{})
			t.open(2)
			t.wire(2, "Delivered", Wire{Tag: tag, Consumer: "w-1-Y", MessageID: "n"})
			t.handled("w-1-X", "m", tag, OK)
			t.wire(2, "Acked", Wire{Tag: tag})
			t.handled("w-1-Y", "n", tag, OK)
		}, falseSettled},
		"acknowledged, and never delivered": {func(t *tale) { t.wire(1, "Acked", Wire{Tag: 7}) }, falseSettled},
		"settled twice": {func(t *tale) {
			t.confirmed("m")
			t.processed("m")
			t.wire(1, "Acked", Wire{Tag: t.number})
		}, falseSettled},
		"given back, not begun, by a consumer that ends": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.put(Record{Stop: &Stop{Run: "w-1"}})
			t.wire(1, "DeliveryNacked", Wire{Tag: tag, Requeue: true})
			tag = t.delivered(1, "w-2-X", "m", true)
			t.handled("w-2-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, ""},
		"given back, not begun, by a consumer that goes on": {func(t *tale) {
			t.confirmed("m")
			t.put(Record{Stop: &Stop{Run: "w-1"}})
			tag := t.delivered(1, "w-2-X", "m", false)
			t.wire(1, "DeliveryNacked", Wire{Tag: tag, Requeue: true})
			tag = t.delivered(1, "w-2-X", "m", true)
			t.handled("w-2-X", "m", tag, OK)
			t.wire(1, "Acked", Wire{Tag: tag})
		}, falseSettled},
		"given back although its handler succeeded": {func(t *tale) {
			t.confirmed("m")
			tag := t.delivered(1, "w-1-X", "m", false)
			t.put(Record{Stop: &Stop{Run: "w-1"}})
			t.handled("w-1-X", "m", tag, OK)
			t.wire(1, "DeliveryNacked", Wire{Tag: tag, Requeue: true})
		}, falseSettled},
		"a channel closed over a settlement": {func(t *tale) {
			t.wire(1, "ChannelClosed", Wire{FromBroker: true, Code: 406, Text: "unknown delivery tag 7"})
			t.wire(1, "ChannelOpened", Wire{})
		}, refused},
	} {
		t.Run(name, c.test)
	}
}
