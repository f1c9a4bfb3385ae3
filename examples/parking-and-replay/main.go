// Parking-and-replay manages the messages in the parking queue of a retry plan. It lists and replays them, and exports
// them to a file and back.
//
//	$ go run ./examples/parking-and-replay park    # sample data: four orders that fail
//	parked 4 orders in parking.orders.parked
//	$ go run ./examples/parking-and-replay list
//	MESSAGE  QUEUE           ATTEMPTS  LAST FAILURE         REASON     ERROR
//	chair    parking.orders  1         2026-11-23 03:36:34  permanent  "no address"
//	table    parking.orders  1         2026-11-23 03:36:34  permanent  "no address"
//	book     parking.orders  2         2026-11-23 03:36:34  attempts   "payment timeout"
//	lamp     parking.orders  2         2026-11-23 03:36:34  attempts   "payment timeout"
//	$ go run ./examples/parking-and-replay -error timeout -dry replay
//	would replay 2 of 4 messages, 2 stay parked
//	$ go run ./examples/parking-and-replay -error timeout -rate 10 replay
//	4 of 4 seen, 2 replayed
//	replayed 2 of 4 messages, 2 stay parked
//	$ go run ./examples/parking-and-replay -file parked.jsonl export    # the messages also stay in the queue
//	exported 2 messages to parked.jsonl
//	$ go run ./examples/parking-and-replay -file parked.jsonl import
//	imported 2 messages from parked.jsonl
//
// All commands except park work on any parking queue:
//
//	$ go run ./examples/parking-and-replay -queue billing.parked list
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/producer"
)

var (
	queue = flag.String("queue", "parking.orders.parked", "the parking `queue`")
	file  = flag.String("file", "parked.jsonl", "the `file` of export and import")
	text  = flag.String("error", "", "replay only messages whose error contains this `text`")
	older = flag.Duration("older", 0, "replay only messages whose last failure is at least this long ago")
	limit = flag.Int("limit", 0, "maximum number of messages to replay; 0 means all")
	rate  = flag.Float64("rate", 100, "maximum number of messages to replay per second; 0 means no limit")
	dry   = flag.Bool("dry", false, "count the messages without replaying them")
)

func main() {
	flag.Parse()
	if err := run(flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

func run(command string) error {
	do, ok := map[string]func(context.Context, *amqpkit.Conn, *producer.Producer) error{
		"park": park, "list": list, "replay": replay, "export": export, "import": imports,
	}[command]
	if !ok {
		return fmt.Errorf("unknown command %q; use park, list, replay, export or import, after the flags", command)
	}
	// Ctrl-C stops a replay after the messages that are already being published. The others stay parked.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	conn, err := amqpkit.Dial(ctx, cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/"))
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	defer p.Close(context.Background())
	return do(ctx, conn, p)
}

// list prints the first hundred parked messages.
func list(ctx context.Context, conn *amqpkit.Conn, _ *producer.Producer) error {
	parked, err := parking.Peek(ctx, conn, *queue, 100)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MESSAGE\tQUEUE\tATTEMPTS\tLAST FAILURE\tREASON\tERROR")
	for _, m := range parked {
		at := "unknown" // RabbitMQ dead-lettered the message, not the plan
		if !m.LastFailure.IsZero() {
			at = m.LastFailure.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%.60q\n", m.Publishing.MessageId, m.Queue, m.Attempts, at, m.Reason, m.Error)
	}
	return w.Flush()
}

func replay(ctx context.Context, conn *amqpkit.Conn, p *producer.Producer) error {
	r, err := parking.Replay(ctx, conn, p, parking.ReplayConfig{
		Queue: *queue,
		Match: func(m parking.Message) bool {
			return strings.Contains(m.Error, *text) && time.Since(m.LastFailure) >= *older
		},
		Limit: *limit, Rate: *rate, DryRun: *dry,
		Progress: func(r parking.ReplayResult) {
			seen := r.Replayed + r.Kept + r.Skipped
			fmt.Fprintf(os.Stderr, "\r%d of %d seen, %d replayed ", seen, r.Total, r.Replayed)
		},
	})
	fmt.Fprintln(os.Stderr)
	did := "replayed"
	if *dry {
		did = "would replay"
	}
	fmt.Printf("%s %d of %d messages, %d stay parked\n", did, r.Replayed, r.Total, r.Total-r.Replayed)
	return err
}

func export(ctx context.Context, conn *amqpkit.Conn, _ *producer.Producer) error {
	f, err := os.Create(*file)
	if err != nil {
		return err
	}
	n, err := parking.Export(ctx, conn, *queue, f)
	fmt.Printf("exported %d messages to %s\n", n, *file)
	return errors.Join(err, f.Close())
}

// imports implements the command import, which is a keyword in Go.
func imports(ctx context.Context, _ *amqpkit.Conn, p *producer.Producer) error {
	f, err := os.Open(*file)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := parking.Import(ctx, p, *queue, f)
	fmt.Printf("imported %d messages from %s\n", n, *file)
	return err
}
