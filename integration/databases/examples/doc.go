// Package examples runs the programs of the folder examples that need a database, on RabbitMQ, and tests the code of
// docs/consistency.md.
package examples
