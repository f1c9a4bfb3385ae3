// Package kit has helpers for the integration tests: the shared broker; connections, queues and consumers that are
// closed with the test; and bounded waits.
package kit
