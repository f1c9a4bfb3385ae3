// Data-sync keeps the databases of two services equal: an orders service inserts, updates and deletes orders, and a billing
// service, which starts later, maintains a copy. Both services are killed in the middle. Then a checker lists every
// difference between the two databases.
//
//	go -C examples/data-sync run .
//	AMQPKIT_POSTGRES=postgres://user:password@localhost/ go -C examples/data-sync run . -postgres
//
// The files: demo.go starts and kills the services, orders.go and billing.go are the services, service.go is their common
// part, snapshot.go sends existing rows to a new service, load.go changes orders, check.go compares the databases,
// message.go defines messages and queues, and database.go and postgres.go open and create databases.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var d demo
	flag.BoolVar(&d.postgres, "postgres", false, "use the PostgreSQL server of AMQPKIT_POSTGRES instead of SQLite")
	flag.BoolVar(&d.keep, "keep", false, "keep the databases")
	load := flag.Duration("load", 2*time.Second, "time in which the orders service changes orders")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: data-sync [flags] [orders | billing | check]\nWithout a word it runs everything. The words use the databases of", ordersVar, "and", billingVar+".")
		flag.PrintDefaults()
	}
	flag.Parse()
	d.load = *load

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, flag.Arg(0), &d)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "data-sync:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, role string, d *demo) error {
	switch role {
	case "":
		return d.run(ctx)
	case "orders":
		return runOrders(ctx, d.load)
	case "billing":
		return runBilling(ctx)
	case "check":
		return runCheck(ctx)
	}
	return fmt.Errorf("unknown role %q; use orders, billing, check or none", role)
}
