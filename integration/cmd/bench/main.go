// Command bench measures amqpkit against hand-written amqp091-go, whose programs are in integration/bench/raw. The
// sides run in separate processes and take turns. It prints medians, and at the end a line for each comparison:
//
//	bench publish-quorum-1KiB-256g ratio_throughput=… ratio_cpu=… ratio_allocs=…
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	quick  bool
	rows   string
	rounds int
	scale  float64
	docs   string
	from   string
	base   string
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&o.quick, "quick", false, "the main rows, in less than two minutes")
	f.StringVar(&o.rows, "rows", "", "only the rows that match this regular expression")
	f.IntVar(&o.rounds, "rounds", 5, "number of rounds; the results are their medians")
	f.Float64Var(&o.scale, "scale", 1, "factor for the number of messages in each run")
	f.StringVar(&o.docs, "docs", "", "directory to write benchmarks.md, its charts and benchmarks.json into")
	f.StringVar(&o.from, "from", "", "measure nothing and print the results in this benchmarks.json")
	f.StringVar(&o.base, "base", "", "also compare with amqpkit at this commit; fail if a row became slower")
	if err := f.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "amqpkit-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var draw drawer // built first, so that an error is reported before the measurement
	if o.docs != "" {
		if draw, err = newDrawer(ctx, dir); err != nil {
			return err
		}
	}
	var r report
	if o.from != "" {
		r, err = load(o.from)
	} else {
		r, err = o.measure(ctx, dir, stderr)
	}
	if len(r.Rows) == 0 {
		return err
	}
	if o.docs != "" && err == nil { // an incomplete page would look complete
		err = r.write(ctx, o.docs, draw)
	}
	r.print(stdout)
	return errors.Join(err, r.printChanges(stdout), r.printLimits(stdout))
}

func (o options) measure(ctx context.Context, dir string, progress io.Writer) (r report, err error) {
	groups, err := o.groups()
	if err != nil {
		return report{}, err
	}
	programs, err := build(ctx, dir)
	if err != nil {
		return report{}, err
	}
	if o.base != "" {
		if err := buildBase(ctx, dir, o.base); err != nil {
			return report{}, err
		}
		groups = withBase(groups)
	}
	var dbs *databases
	if slices.ContainsFunc(groups, func(g group) bool { return g.database != "" }) {
		if dbs, err = startDatabases(ctx, dir, progress); err != nil {
			return report{}, err
		}
		defer func() { err = errors.Join(err, dbs.stop()) }()
	}
	broker, err := rabbit.Start(ctx, rabbit.Options{Progress: progress})
	if err != nil {
		return report{}, err
	}
	defer func() { err = errors.Join(err, broker.Close(context.WithoutCancel(ctx))) }()
	if !broker.Owned() {
		fmt.Fprintln(progress, "recovery is not measured: the connections of the broker from AMQP_URL cannot be closed by force")
		groups = slices.DeleteFunc(groups, func(g group) bool { return g.cut })
	}
	b := &bench{queues: onBroker{broker}, programs: programs, progress: progress, dbs: dbs, broker: broker.PID(ctx)}
	if o.quick { // on a busy machine fewer rounds, not more time
		b.shorten = time.Now().Add(30 * time.Second)
	}
	rows, err := b.all(ctx, groups, o.rounds)
	return report{Environment: environment(broker, dbs), Rows: rows}, err
}

func (o options) groups() ([]group, error) {
	groups := plan()
	factor := o.scale
	if o.quick {
		groups = only(groups, func(row string) bool { return slices.Contains(quickRows, row) })
		factor /= 2
	}
	pattern, err := regexp.Compile(o.rows)
	if err != nil {
		return nil, err
	}
	groups = only(groups, pattern.MatchString)
	if len(groups) == 0 {
		return nil, errors.New("no row matches")
	}
	if o.scale <= 0 || o.rounds < 1 {
		return nil, errors.New("at least one round and a scale above zero are required")
	}
	return scaled(groups, factor), nil
}
