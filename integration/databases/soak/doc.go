// Package soak runs services that synchronise two databases through RabbitMQ, injects faults, and compares the databases.
//
//	writers ─► database A ─► relays ─► RabbitMQ ─► consumers ─► database B
//	           + outbox                              inbox +
//
// Writers insert, update and delete business rows in database A and add one message for each change to the outbox, in one
// transaction. Some transactions are rolled back after that. Relays publish the messages. Consumers apply the changes to
// database B through an inbox. Every service is a process, so that it can be killed (SIGKILL) at any point.
//
// The faults are random, in an order that the seed determines: services are killed, stopped in order, and suspended;
// connections are cut; the broker and the databases are restarted and killed. SQLite has no server, so only services and
// connections fail there. Its files use WAL and synchronous=FULL, and each process has one connection.
//
// [Run] judges from the rows alone. A row has a version number, which each change increments. Database A records the
// changes of each committed transaction. Database B records the changes in the order in which they were applied. They
// must be equal for each row: nothing missing, duplicated or out of order, and nothing from a transaction that was rolled
// back. Before the first fault, while all services run undisturbed, no message may be published twice.
//
// A run without findings proves little if little happened, so it is valid only with a minimum of changes and of every
// kind of fault. The tests in mutants_test.go plant defects in the packages and require the judge to find each of them.
//
// # Order after a failure
//
// The consumers apply the changes of a row in order although transactions fail. Two settings are necessary. Each queue
// has a single active consumer, so that one process handles the messages of a row. And the handler tries again until
// its ctx ends: a message whose handler returned an error would be redelivered behind later messages of its row.
package soak
