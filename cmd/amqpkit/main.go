// Amqpkit works with RabbitMQ at a terminal. It sends and receives messages, inspects and replays parked messages, and runs a broker for
// development. Its help has an example for each command:
//
//	amqpkit help
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE) // a closed output is an error of its write
	context.AfterFunc(ctx, stop)   // a second Ctrl-C terminates the process at once
	os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
