// Package integration proves the promises of this module on a real RabbitMQ. Its folders are:
//
//   - connection, topology, publishing, consuming and retrying test one subject each. TestS01 to TestS98, the fault
//     catalogue of docs/reliability.md, are among them.
//   - command tests the command amqpkit as a process.
//   - examples runs the programs of the README and of the folder examples, also together with pika.
//   - conformance compares package amqptest with RabbitMQ.
//   - walls checks which packages the rooms import and link.
//   - memory measures that the memory in use does not grow.
//   - rabbit starts RabbitMQ, alone or as a cluster, and injects faults. soak judges programs under random faults.
//   - bench holds the programs that make bench compares.
//   - databases is a nested module with the tests on PostgreSQL, MariaDB and SQLite, and package servers, which starts them. Its
//     folder examples runs the example programs that need a database.
//   - cmd holds the commands behind make.
//   - internal/kit holds helpers of the tests. internal/ports finds free ports.
//
// "make integration" and "make faults" run all of them on two brokers. In a single folder, go test starts a broker for
// itself. To share one between several runs:
//
//	go run ./integration/cmd/broker -n 2 go test -p 3 ./integration/...
package integration
