// Package side is what the programs have in common that make bench compares: what they are told to do, and how they
// measure themselves. Each runs in its own process, so that neither side pays for the other's garbage.
//
//	func main() { side.Main(run) }
//
//	func run(ctx context.Context, t side.Task) (side.Result, error) {
//		… // connect
//		clock := side.Start()
//		… // move t.Messages
//		return clock.Stop(t.Messages), nil
//	}
//
// A program prints its Result as one line of JSON and nothing else.
package side

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// A Task is what the runner asks of a program. Not every program has a use for every field.
type Task struct {
	URL        string
	Queue      string // see QueueNames
	Queues     int
	Stream     bool // the queues are streams, to be read from their beginning
	Messages   int  // in all, spread evenly over the queues
	Size       int  // bytes of a body
	Goroutines int
	Window     int           // most messages unconfirmed at once
	Prefetch   int           // most deliveries unacknowledged at once, of each consumer; zero means the side's own default
	Multiple   int           // acknowledge every so many deliveries, and those before with it; zero means each by itself
	How        string        // which of the program's ways to do it
	Name       string        // connection name
	For        time.Duration // how long to go on
}

// QueueNames returns the names of the queues: Queue with a number.
func (t Task) QueueNames() []string {
	names := make([]string, t.Queues)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", t.Queue, i)
	}
	return names
}

// flags returns a set of flags that fills t.
func (t *Task) flags() *flag.FlagSet {
	f := flag.NewFlagSet("side", flag.ContinueOnError)
	f.StringVar(&t.URL, "url", "amqp://guest:guest@localhost:5672/", "the broker")
	f.StringVar(&t.Queue, "queue", "bench", "what the names of the queues begin with; -0, -1, … follow")
	f.IntVar(&t.Queues, "queues", 1, "how many queues")
	f.BoolVar(&t.Stream, "stream", false, "the queues are streams")
	f.IntVar(&t.Messages, "messages", 10_000, "how many messages in all, a multiple of queues")
	f.IntVar(&t.Size, "size", 1024, "bytes of a body")
	f.IntVar(&t.Goroutines, "goroutines", 1, "how many goroutines")
	f.IntVar(&t.Window, "window", 1024, "how many messages may be unconfirmed")
	f.IntVar(&t.Prefetch, "prefetch", 300, "how many deliveries of a consumer may be unacknowledged")
	f.IntVar(&t.Multiple, "multiple", 0, "acknowledge every so many deliveries at once")
	f.StringVar(&t.How, "how", "", "which way")
	f.StringVar(&t.Name, "name", "", "connection name")
	f.DurationVar(&t.For, "for", time.Second, "how long to go on")
	return f
}

// Args are the command line for t.
func (t Task) Args() []string {
	var into Task
	f := into.flags()
	into = t // the flags now show t's values
	var args []string
	f.VisitAll(func(g *flag.Flag) { args = append(args, "-"+g.Name+"="+g.Value.String()) })
	return args
}

// Main runs a program: it reads the flags, prints the result, and ends the process with status 1 on an error.
func Main(run func(context.Context, Task) (Result, error)) {
	var t Task
	if err := t.flags().Parse(os.Args[1:]); err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	result, err := run(ctx, t)
	stop()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
