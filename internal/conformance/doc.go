// Package conformance keeps amqptest's broker like RabbitMQ. Each [Scenario] is what a client does, and writes down what
// it sees: answers, errors with their code and text, deliveries with their headers, confirms and returns in their order.
// The transcripts in testdata were recorded from RabbitMQ 4.3. A test of this package has amqptest write the same, and
// one of the integration tests RabbitMQ, so neither can drift unnoticed:
//
//	go test ./internal/conformance                                     # amqptest
//	cd integration/conformance && go test -run TestConformance         # RabbitMQ
//	cd integration/conformance && go test -run TestConformance -record # record again, from RabbitMQ
//
// docs/conformance.md tells which behaviour is covered by which scenario, and what amqptest refuses.
package conformance
