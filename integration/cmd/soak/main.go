// Command soak runs publishers and consumers through random faults and judges what came of it. The last line of its
// output is one line of JSON, and only a verdict of "valid" ends it with exit status 0. See package soak.
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
	flags.DurationVar(&o.Duration, "duration", time.Minute, "how long there are faults")
	flags.IntVar(&o.Nodes, "nodes", 1, "how many nodes the broker has: 1, or 3 for a cluster in containers")
	flags.Uint64Var(&o.Seed, "seed", 0, "decides about the faults; 0 draws one")
	flags.IntVar(&o.Rate, "rate", 1500, "messages a second to aim at")
	flags.StringVar(&o.Dir, "dir", "", "directory for the history, which is then kept; by default a temporary one, kept unless the run is valid")
	kinds := flags.String("faults", "", "kinds of faults, separated by commas; by default all that can be done")
	recorded := flags.String("judge", "", "judge this history again instead of making one")
	if err := flags.Parse(args); err != nil {
		return "", err
	}
	if *recorded != "" {
		return judge(*recorded, stdout, stderr)
	}
	if o.Nodes < 1 || o.Duration < time.Second || o.Rate < 1 {
		return "", errors.New("it takes a node, a second and a rate at least")
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
	verdict, judging := judge(path, stdout, stderr)
	if verdict == soak.Valid && !kept {
		err = errors.Join(err, os.RemoveAll(o.Dir))
	}
	return verdict, errors.Join(err, judging)
}

// judge judges a history and prints the result.
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
