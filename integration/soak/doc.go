// Package soak runs publishers and consumers of the toolkit through random faults. It records every event in a history
// and judges the run from that history alone.
//
// The records have three independent sources. The workload publishes and consumes as applications do, on quorum queues.
// It writes a [Record] for every publish, every outcome and every result of a handler. On one route, handlers fail a
// number of times that the message defines, and package retry retries and parks those messages. The nemesis injects the
// faults, in an order that the seed determines. A proxy in front of each node records the AMQP frames on the wire:
// settlements and confirms are taken from the proxy, never from the toolkit.
//
// [Judge] connects the three sources by times and names only, and reports every contradiction of the promises: messages
// lost or duplicated without a reason, outcomes that the wire disproves, deliveries settled before their handler had
// returned or their copy was confirmed, attempts beyond the policy, and calls that outlived their ctx.
//
// A run without findings proves little if little happened, so a run is valid only with a minimum of every kind of
// event. The tests in mutants_test.go plant known faults in the toolkit and require the judge to find each of them.
package soak
