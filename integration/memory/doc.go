// Package memory tests amqpkit's memory use on an in-memory broker. Run the tests without the race detector, which would
// add to the measurements.
package memory
