// Package soak runs publishers and consumers of the toolkit through random faults, records what everyone saw, and
// judges it from the records alone.
//
// Three things are kept apart. The workload publishes and consumes as applications do, on quorum queues, and every
// message that it attempts, every outcome and every result of a handler is a [Record]. One route is for messages that
// fail, as often as their numbers say, and are retried and parked by package retry. The nemesis does the
// faults, in an order that a seed decides. And a proxy in front of each node, one for each client, writes down what
// really went over the wire: a settlement or a confirm is what the proxy saw, never what the toolkit says of
// itself. [Judge] reads the records, in which nothing but times and names connects the three, and finds what
// contradicts the promises: messages lost or duplicated without a reason, outcomes that the wire disproves,
// deliveries settled before their handler had returned or their copy was confirmed, attempts beyond the policy, calls
// that outlived their ctx.
//
// A judge that finds nothing proves little, so a run is valid only with enough of everything, and mutants_test.go
// plants known faults in the toolkit, each of which must be found.
package soak
