// Package walls tests which packages each room of amqpkit imports and links.
package walls
