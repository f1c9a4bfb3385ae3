// Package connection tests Conn on RabbitMQ: dialling, login and TLS, credentials that expire, lost connections, network
// faults, broker restarts and a cluster.
package connection
