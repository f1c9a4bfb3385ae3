// Package kit holds what the tests in several folders of integration need: the broker that they share, connections,
// queues and consumers that end with the test, and waits with a bound.
package kit
