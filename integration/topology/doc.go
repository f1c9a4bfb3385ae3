// Package topology tests declaring and verifying on RabbitMQ, and that Setup restores missing objects.
package topology
