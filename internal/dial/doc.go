// Package dial opens AMQP connections: it parses URLs, tries the addresses of a host, and makes the TLS and AMQP handshakes, all
// bounded by ctx.
package dial
