package soak

import "testing"

func TestJudgeFindsRetriesBeyondThePolicy(t *testing.T) {
	for name, c := range map[string]judgeCase{
		"failed twice and succeeded": {func(t *builder) {
			t.publishRetried("m", 2, "")
			t.failAttempt("m", 1, "wait1")
			t.failAttempt("m", 2, "wait2")
			t.succeedAttempt("m", 3)
		}, ""},
		"failed every attempt and parked": {func(t *builder) {
			t.publishRetried("m", 3, "attempts")
			t.failAttempt("m", 1, "wait1")
			t.failAttempt("m", 2, "wait2")
			t.failAttempt("m", 3, "parked")
			t.park("m", 3, "attempts")
		}, ""},
		"failed and republished to its own queue": {func(t *builder) {
			t.publishRetried("m", 1, "")
			tag, began, _ := t.attempt("m", 1, Fail)
			t.move(1, "m", "wait1")
			t.wire(1, "Confirmed", Wire{Tag: t.move(1, "m", "retry"), MessageID: "m"})
			t.settle("m", tag, began, Moved)
			t.succeedAttempt("m", 2)
		}, ""},
		"one attempt too many": {func(t *builder) {
			t.publishRetried("m", 1, "permanent")
			t.failAttempt("m", 1, "wait1")
			t.failAttempt("m", 2, "parked")
			t.park("m", 1, "permanent")
		}, overtried + ": attempt 2 at m"},
		"an attempt after a successful one": {func(t *builder) {
			t.publishRetried("m", 0, "")
			t.succeedAttempt("m", 1)
			t.fault(1, Cut)
			t.succeedAttempt("m", 2).Redelivered = true
			t.records[len(t.records)-2].Handled.Redelivered = true
			t.records[len(t.records)-4].Wire.Redelivered = true
		}, overtried + ": with a maximum of 1"},
		"a skipped attempt": {func(t *builder) {
			t.publishRetried("m", 2, "")
			t.failAttempt("m", 1, "wait2")
			t.succeedAttempt("m", 3)
		}, overtried + ": attempt 3 at m"},
		"an attempt before its delay elapsed": {func(t *builder) {
			t.publishRetried("m", 1, "")
			t.records[0].Settings.Retry.Waits[0].Delay = 100 * ms
			t.failAttempt("m", 1, "wait1")
			t.succeedAttempt("m", 2)
		}, overtried + ": 100ms earlier"},
		"an attempt before its requested delay elapsed": {func(t *builder) {
			t.publishRetried("m", 2, "")
			t.records[len(t.records)-4].Publish.After = 100 * ms
			t.failAttempt("m", 1, "wait1")
			t.failAttempt("m", 2, "wait2")
			t.succeedAttempt("m", 3)
		}, overtried + ": 100ms earlier"},
		"an attempt without a number": {func(t *builder) { t.publishRetried("m", 0, ""); t.succeedAttempt("m", 0) }, overtried},
		"an attempt after a requeued one": {func(t *builder) {
			t.publishRetried("m", 2, "")
			t.failAttempt("m", 1, "wait1").Result = Requeue
			t.succeedAttempt("m", 2)
		}, overtried + ": without a failure"},
		"the first attempt repeated from a wait queue": {func(t *builder) {
			t.publishRetried("m", 2, "")
			t.failAttempt("m", 1, "wait1")
			t.failAttempt("m", 1, "wait1")
			t.failAttempt("m", 2, "wait2")
			t.succeedAttempt("m", 3)
		}, overtried + ": attempt 1 at m was made 2 times"},
		"the second attempt repeated after one move": {func(t *builder) {
			t.publishRetried("m", 2, "")
			t.failAttempt("m", 1, "wait1")
			t.failAttempt("m", 2, "wait2")
			t.failAttempt("m", 2, "wait2")
			t.succeedAttempt("m", 3)
			t.fault(1, Cut)
		}, overtried + ": attempt 2 at m was made 2 times"},
		"an in-process attempt and the next one": {func(t *builder) {
			t.records[0].Settings.Retry.Waits[0].Queue = ""
			t.publishRetried("m", 2, "")
			tag, began, _ := t.attempt("m", 1, Fail)
			t.now += 10 * ms
			t.put(Record{Try: &Try{ID: "m", Began: t.now, Attempt: 2, Result: Fail}})
			t.wire(1, "Confirmed", Wire{Tag: t.move(1, "m", "wait2")})
			t.settle("m", tag, began, Moved)
			t.succeedAttempt("m", 3)
		}, ""},
		"an in-process attempt repeated without a redelivery": {func(t *builder) {
			t.records[0].Settings.Retry.Waits[0].Queue = ""
			t.publishRetried("m", 2, "")
			tag, began, _ := t.attempt("m", 1, Fail)
			t.now += 10 * ms
			for range 2 {
				t.put(Record{Try: &Try{ID: "m", Began: t.now, Attempt: 2, Result: Fail}})
			}
			t.wire(1, "Confirmed", Wire{Tag: t.move(1, "m", "wait2")})
			t.settle("m", tag, began, Moved)
			t.succeedAttempt("m", 3)
		}, overtried + ": attempt 2 at m was made 2 times"},
		"a requested delay through several wait queues and copies": {func(t *builder) {
			t.records[0].Settings.Retry.Waits[0].Queue = ""
			t.publishRetried("m", 1, "")
			t.records[len(t.records)-4].Publish.After = 25 * ms
			t.fault(1, Cut)
			t.failAttempt("m", 1, "wait2")
			tag, began := t.deliver(1, "r-1-X", "m", false), t.now
			t.move(1, "m", "wait2")
			t.wire(1, "Confirmed", Wire{Tag: t.move(1, "m", "wait2")})
			t.settle("m", tag, began, Moved)
			t.succeedAttempt("m", 2)
			t.succeedAttempt("m", 2)
		}, ""},
		"the second attempt repeated after an outage": {func(t *builder) {
			t.publishRetried("m", 2, "")
			t.failAttempt("m", 1, "wait1")
			t.failAttempt("m", 2, "wait2")
			t.fault(1, Kill)
			t.records[len(t.records)-2].Fault.Nodes = []int{0}
			t.failAttempt("m", 2, "wait2")
			t.succeedAttempt("m", 3)
		}, ""},
		"two copies after an unconfirmed move": {func(t *builder) {
			t.publishRetried("m", 1, "")
			tag, began, _ := t.attempt("m", 1, Fail)
			t.move(1, "m", "wait1")
			t.wire(1, "LinkClosed", Wire{})
			t.fault(1, Cut)
			t.open(2)
			h := t.handle("r-1-X", "m", tag, Requeue)
			h.Began, h.Stayed, h.Unmoved = began, true, 1
			t.succeedAttempt("m", 2)
			t.failAttempt("m", 1, "wait1").Redelivered = true
			t.succeedAttempt("m", 2)
		}, ""},
	} {
		t.Run(name, c.test)
	}
}

func TestJudgeFindsWrongMoves(t *testing.T) {
	for name, c := range map[string]judgeCase{
		"not delivered after a wait queue": {func(t *builder) { t.publishRetried("m", 1, ""); t.failAttempt("m", 1, "wait1") }, lost},
		"unconfirmed, and not delivered after a wait queue": {func(t *builder) {
			t.publishRetried("m", 1, "")
			for i := range t.records {
				if o := t.records[i].Outcome; o != nil {
					o.What = Unconfirmed
				}
			}
			t.records[len(t.records)-4].Publish.Deadline = 0
			t.failAttempt("m", 1, "wait1")
			t.fault(1, Cut)
		}, lost + ": reported as unconfirmed"},
		"unconfirmed and never delivered, but confirmed on the wire": {func(t *builder) {
			p := t.publish("m")
			p.Route, p.Deadline = toRetry, t.now
			t.wire(1, "Confirmed", Wire{Tag: t.send(1, "m"), MessageID: "m"})
			t.outcome("m", Unconfirmed)
			t.fault(1, Cut)
		}, lost + ": acknowledged there 0 times"},
		"one of two copies not delivered after a wait queue": {func(t *builder) {
			t.publishRetried("m", 1, "")
			t.failAttempt("m", 1, "wait1")
			t.fault(1, Cut)
			t.wire(1, "Confirmed", Wire{Tag: t.move(1, "m", "wait1")})
			t.wire(1, "ChannelClosed", Wire{})
			t.succeedAttempt("m", 2)
		}, lost + ": confirmed 3 times for queue retry"},
		"one of two copies not delivered from the parking queue": {func(t *builder) {
			t.publishRetried("m", 1, "rule")
			t.failAttempt("m", 1, "parked")
			t.fault(1, Cut)
			t.wire(1, "Confirmed", Wire{Tag: t.move(1, "m", "parked")})
			t.wire(1, "ChannelClosed", Wire{})
			t.open(2)
			t.park("m", 1, "rule")
		}, lost + ": confirmed 2 times for queue parked"},
		"a copy delivered but not acknowledged": {func(t *builder) {
			t.publishRetried("m", 1, "")
			t.failAttempt("m", 1, "wait1")
			tag, began, _ := t.attempt("m", 2, OK)
			t.handle("r-1-X", "m", tag, OK).Began = began
			t.wire(1, "ChannelClosed", Wire{})
			t.fault(1, Cut)
		}, lost + ": confirmed 2 times for queue retry"},
		"acknowledged without a move": {func(t *builder) {
			t.publishRetried("m", 1, "permanent")
			tag, began, _ := t.attempt("m", 1, Fail)
			t.settle("m", tag, began, Moved)
			t.publishRetried("n", 1, "permanent")
			t.failAttempt("n", 1, "parked")
			t.park("n", 1, "permanent")
			t.process("m")
		}, falseSettled + ": which failed"},
		"acknowledged before the confirm": {func(t *builder) {
			t.publishRetried("m", 1, "permanent")
			tag, began, _ := t.attempt("m", 1, Fail)
			move := t.move(1, "m", "parked")
			t.settle("m", tag, began, Moved)
			t.wire(1, "Confirmed", Wire{Tag: move})
			t.park("m", 1, "permanent")
		}, falseSettled + ": which failed"},
		"acknowledged after a nack": {func(t *builder) {
			t.publishRetried("m", 1, "permanent")
			tag, began, _ := t.attempt("m", 1, Fail)
			t.wire(1, "Nacked", Wire{Tag: t.move(1, "m", "parked")})
			t.settle("m", tag, began, Moved)
			t.park("m", 1, "permanent")
		}, falseSettled + ": which failed"},
		"acknowledged although the copy was returned": {func(t *builder) {
			t.publishRetried("m", 1, "permanent")
			tag, began, _ := t.attempt("m", 1, Fail)
			move := t.move(1, "m", "parked")
			t.wire(1, "Returned", Wire{MessageID: "m", Key: "parked"})
			t.wire(1, "Confirmed", Wire{Tag: move})
			t.settle("m", tag, began, Moved)
			t.park("m", 1, "permanent")
		}, falseSettled + ": which failed"},
		"two deliveries acknowledged for one copy": {func(t *builder) {
			t.publishRetried("m", 1, "permanent")
			first, began, _ := t.attempt("m", 1, Fail)
			t.fault(1, Cut)
			second, _, x := t.attempt("m", 1, Fail)
			x.Redelivered = true
			t.records[len(t.records)-2].Wire.Redelivered = true
			t.wire(1, "Confirmed", Wire{Tag: t.move(1, "m", "parked")})
			t.settle("m", first, began, Moved)
			t.settle("m", second, began, Moved)
			t.park("m", 1, "permanent")
		}, falseSettled + ": which failed"},
		"acknowledged for the copy of an earlier delivery": {func(t *builder) {
			t.publishRetried("m", 1, "permanent")
			_, _, _ = t.attempt("m", 1, Fail)
			t.wire(1, "Confirmed", Wire{Tag: t.move(1, "m", "parked")})
			t.fault(1, Cut)
			tag, began, x := t.attempt("m", 1, Fail)
			x.Redelivered = true
			t.records[len(t.records)-2].Wire.Redelivered = true
			t.settle("m", tag, began, Moved)
			t.park("m", 1, "permanent")
		}, falseSettled + ": which failed"},
		"acknowledged for the copy of another client": {func(t *builder) {
			t.publishRetried("m", 1, "permanent")
			tag, began, _ := t.attempt("m", 1, Fail)
			t.wire(2, "ConnectionOpened", Wire{Client: "b", FromBroker: true})
			t.wire(2, "Confirmed", Wire{Tag: t.move(2, "m", "parked")})
			t.settle("m", tag, began, Moved)
			t.park("m", 1, "permanent")
		}, falseSettled + ": which failed"},
		"moved although it succeeded": {func(t *builder) {
			t.publishRetried("m", 0, "")
			t.succeedAttempt("m", 1)
			t.wire(1, "Confirmed", Wire{Tag: t.move(1, "m", "wait1")})
			t.fault(1, Cut)
			t.redeliverTo("r-1-X", "m")
		}, unexpected + ": only 0 of its deliveries failed"},
		"moved but never published": {func(t *builder) { t.move(1, "m", "wait1") }, unexpected + ": on the wire"},
		"requeued and delivered again": {func(t *builder) {
			t.publishRetried("m", 1, "")
			tag, began, _ := t.attempt("m", 1, Fail)
			t.wire(1, "Nacked", Wire{Tag: t.move(1, "m", "wait1")})
			h := t.handle("r-1-X", "m", tag, Requeue)
			h.Began, h.Stayed, h.Unmoved = began, true, 1
			t.wire(1, "DeliveryNacked", Wire{Tag: tag, Requeue: true})
			tag, began = t.deliver(1, "r-1-X", "m", true), t.now
			t.wire(1, "Confirmed", Wire{Tag: t.move(1, "m", "wait1")})
			t.settle("m", tag, began, Moved).Redelivered = true
			t.succeedAttempt("m", 2)
		}, ""},
		"as many copies as were sent to a wait queue": {func(t *builder) {
			t.publishRetried("m", 1, "")
			t.failAttempt("m", 1, "wait1")
			t.fault(1, Cut)
			for range 11 {
				t.move(1, "m", "wait1")
			}
			for range 12 {
				t.succeedAttempt("m", 2)
			}
		}, ""},
		"a second parked copy after its Run returned nil": {func(t *builder) {
			t.wire(1, "Subscribed", Wire{Consumer: "p-1-X"})
			t.publishRetried("m", 1, "rule")
			t.failAttempt("m", 1, "parked")
			t.move(1, "m", "parked")
			t.park("m", 1, "rule")
			t.stopRun("p-1")
			t.wire(1, "ChannelClosed", Wire{})
			t.fault(1, Cut)
			t.open(2)
			h := t.redeliverTo("p-2-X", "m")
			h.Attempts, h.Why = 1, "rule"
		}, ""},
		"parked once and delivered again after its Run returned nil": {func(t *builder) {
			t.wire(1, "Subscribed", Wire{Consumer: "p-1-X"})
			t.publishRetried("m", 1, "rule")
			t.failAttempt("m", 1, "parked")
			t.park("m", 1, "rule")
			t.stopRun("p-1")
			t.wire(1, "ChannelClosed", Wire{})
			t.fault(1, Cut)
			t.open(2)
			h := t.redeliverTo("p-2-X", "m")
			h.Attempts, h.Why = 1, "rule"
		}, misreported + ": whose Run returned nil"},
		"delivered twice from the parking queue, moved there once": {func(t *builder) {
			t.publishRetried("m", 1, "rule")
			t.failAttempt("m", 1, "parked")
			t.fault(1, Cut)
			t.deliver(1, "p-1-X", "m", false)
			t.park("m", 1, "rule")
		}, duplicated + ": 2 times from the parking queue"},
	} {
		t.Run(name, c.test)
	}
}

func TestJudgeFindsMessagesParkedWithoutReason(t *testing.T) {
	for name, c := range map[string]judgeCase{
		"although the next attempt should succeed": {func(t *builder) {
			t.publishRetried("m", 1, "")
			t.failAttempt("m", 1, "parked")
			t.park("m", 1, "attempts")
		}, unexpected + ": although attempt 2 should succeed"},
		"too early": {func(t *builder) {
			t.publishRetried("m", 3, "attempts")
			t.failAttempt("m", 1, "wait1")
			t.failAttempt("m", 2, "parked")
			t.park("m", 2, "attempts")
		}, unexpected + ": after 2 attempts"},
		"for another reason": {func(t *builder) {
			t.publishRetried("m", 1, "rule")
			t.failAttempt("m", 1, "parked")
			t.park("m", 1, "permanent")
		}, unexpected + ": (permanent), want 1 (rule)"},
		"with fewer attempts than its headers state": {func(t *builder) {
			t.publishRetried("m", 3, "attempts")
			t.failAttempt("m", 1, "wait1")
			t.failAttempt("m", 2, "parked")
			t.park("m", 3, "attempts")
		}, unexpected + ": although attempt 3 had not failed"},
		"with another body": {func(t *builder) {
			t.publishRetried("m", 1, "rule")
			t.failAttempt("m", 1, "parked")
			t.park("m", 1, "rule").Sum = "x"
		}, corrupt},
	} {
		t.Run(name, c.test)
	}
}
