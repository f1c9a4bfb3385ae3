// Package memory holds the tests of what amqpkit keeps in memory, on a broker in the process. They run without the race
// detector, which would count too.
package memory
