// Command soak-outbox runs services that synchronise two databases through RabbitMQ, injects faults, and compares the
// databases. The last line of its output is one JSON object. The exit status is 0 only if the run is valid. See package
// soak.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/amqpkit/amqpkit/integration/databases/soak"
)

func main() {
	if soak.IsWorker() {
		os.Exit(soak.Work())
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	verdict, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak-outbox:", err)
	}
	if verdict != soak.Valid {
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (verdict string, err error) {
	flags := flag.NewFlagSet("soak-outbox", flag.ContinueOnError)
	flags.SetOutput(stderr)
	o := soak.Options{Progress: stderr}
	flags.StringVar(&o.Database, "database", soak.Postgres, "postgres, mariadb or sqlite")
	flags.DurationVar(&o.Duration, "duration", time.Minute, "duration of the phase with faults")
	flags.Uint64Var(&o.Seed, "seed", 0, "seed for faults and changes; 0 chooses a random one")
	flags.IntVar(&o.Kills, "kills", -1, "minimum number of faults; by default one for every ten seconds")
	flags.DurationVar(&o.Drain, "drain", 2*time.Minute, "time in which the databases must agree after the last fault")
	flags.StringVar(&o.Dir, "dir", "", "folder for the logs of the services; by default a temporary one, removed after a valid run")
	kinds := flags.String("faults", "", "kinds of faults, separated by commas; by default every kind possible on these servers")
	if err := flags.Parse(args); err != nil {
		return "", err
	}
	if o.Kills < 0 {
		o.Kills = int(o.Duration / (10 * time.Second))
	}
	if *kinds != "" {
		o.Faults = strings.Split(*kinds, ",")
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64N(1e9)
	}
	kept := o.Dir != ""
	if kept {
		err = os.MkdirAll(o.Dir, 0o750)
	} else {
		o.Dir, err = os.MkdirTemp("", "amqpkit-soak-outbox-")
	}
	if err != nil {
		return "", err
	}
	r, err := soak.Run(ctx, o)
	if err != nil {
		return "", fmt.Errorf("%w (logs in %s)", err, o.Dir)
	}
	if r.Verdict == soak.Valid && !kept {
		err = os.RemoveAll(o.Dir)
	} else {
		fmt.Fprintln(stderr, "logs:", o.Dir)
	}
	for _, reason := range r.Reasons {
		fmt.Fprintln(stderr, reason)
	}
	line, jsonErr := json.Marshal(r)
	if jsonErr != nil {
		return "", jsonErr
	}
	fmt.Fprintf(stdout, "%s\n", line)
	return r.Verdict, err
}
