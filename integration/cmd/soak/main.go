// Command soak runs publishers and consumers through random faults and judges the recorded history. The last line of
// its output is one JSON object. The exit status is 0 only if the run is valid. See package soak.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/amqpkit/amqpkit/integration/soak"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	verdict, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
	}
	if verdict != soak.Valid {
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (verdict string, err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	o := soak.Options{Progress: stderr}
	flags.DurationVar(&o.Duration, "duration", time.Minute, "duration of the phase with faults")
	flags.IntVar(&o.Nodes, "nodes", 1, "number of nodes: 1, or 3 for a cluster in containers")
	flags.Uint64Var(&o.Seed, "seed", 0, "seed for the faults; 0 chooses a random one")
	flags.IntVar(&o.Rate, "rate", 1500, "target rate in messages per second")
	flags.StringVar(&o.Dir, "dir", "", "directory for the history; by default a temporary one, deleted after a valid run")
	kinds := flags.String("faults", "", "kinds of faults, separated by commas; by default every kind possible on this broker")
	history := flags.String("judge", "", "judge this recorded history instead of starting a run")
	if err := flags.Parse(args); err != nil {
		return "", err
	}
	if *history != "" {
		return judge(*history, stdout, stderr)
	}
	if o.Nodes < 1 || o.Duration < time.Second || o.Rate < 1 {
		return "", errors.New("nodes and rate must be at least 1, and duration at least 1s")
	}
	if *kinds != "" {
		o.Kinds = strings.Split(*kinds, ",")
	}
	if err := o.Check(); err != nil {
		return "", err
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64N(1e9)
	}
	kept := o.Dir != ""
	if kept {
		err = os.MkdirAll(o.Dir, 0o750)
	} else {
		o.Dir, err = os.MkdirTemp("", "amqpkit-soak-")
	}
	if err != nil {
		return "", err
	}
	path, err := soak.Run(ctx, o)
	if path == "" || ctx.Err() != nil {
		return "", err
	}
	fmt.Fprintln(stderr, "history:", path)
	verdict, judgeErr := judge(path, stdout, stderr)
	if verdict == soak.Valid && !kept {
		err = errors.Join(err, os.RemoveAll(o.Dir))
	}
	return verdict, errors.Join(err, judgeErr)
}

// judge judges a history, prints the reasons to stderr and the result to stdout.
func judge(path string, stdout, stderr io.Writer) (verdict string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r, err := soak.Judge(f)
	if err != nil {
		return "", err
	}
	for _, reason := range r.Reasons {
		fmt.Fprintf(stderr, "%s: %s\n", r.Verdict, reason)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(stdout, "%s\n", line)
	return r.Verdict, err
}
