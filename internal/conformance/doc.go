// Package conformance checks that amqptest behaves like RabbitMQ. Each [Scenario] performs client operations and writes
// the results to a transcript: answers, error codes and texts, deliveries with their headers, confirms and returns in
// order. The transcripts in testdata were recorded from RabbitMQ 4.3. A test of this package compares them with amqptest.
// An integration test compares them with RabbitMQ, so a change of either broker fails a test:
//
//	go test ./internal/conformance                                     # amqptest
//	cd integration/conformance && go test -run TestConformance         # RabbitMQ
//	cd integration/conformance && go test -run TestConformance -record # record again, from RabbitMQ
//
// docs/conformance.md lists each behaviour with its scenarios, and the features that amqptest refuses.
package conformance
