// Package side is shared by the programs that make bench compares: it defines their flags and measures them. Each program
// runs in a separate process, so that one side's garbage collection does not affect the other.
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
// A program prints only its Result, as one line of JSON.
package side

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"
)

// A Task is the input of a program. A program ignores fields that do not apply to it.
type Task struct {
	URL        string
	Queue      string // see QueueNames
	Queues     int
	Stream     bool // the queues are streams, to be read from the first message
	Messages   int  // total, spread evenly over the queues
	Size       int  // of a message body, in bytes
	Goroutines int
	Window     int           // maximum number of unconfirmed messages
	Prefetch   int           // maximum number of unacknowledged deliveries per consumer; zero means the side's default
	Multiple   int           // acknowledge this many deliveries with one ack; zero means one ack per delivery
	How        string        // variant of the program
	Name       string        // connection name
	For        time.Duration // duration of the run

	// For programs that use a database.
	Database    string // DSN of PostgreSQL, or the path of a file for SQLite
	Keys        int    // number of ordering keys
	Prepare     string // variant of the program that prepares the database
	Rows        int    // number of waiting messages before the run; zero means Messages
	DatabasePID int    // see Result.DatabaseCPU
	BrokerPID   int    // see Result.BrokerCPU
	Profile     string // file for a CPU profile
}

// QueueNames returns the names of the queues: Queue-0, Queue-1 and so on.
func (t Task) QueueNames() []string {
	names := make([]string, t.Queues)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", t.Queue, i)
	}
	return names
}

// flags returns a flag set that stores its values in t.
func (t *Task) flags() *flag.FlagSet {
	f := flag.NewFlagSet("side", flag.ContinueOnError)
	f.StringVar(&t.URL, "url", "amqp://guest:guest@localhost:5672/", "broker `URL`")
	f.StringVar(&t.Queue, "queue", "bench", "`prefix` of the queue names; -0, -1, … are appended")
	f.IntVar(&t.Queues, "queues", 1, "number of queues")
	f.BoolVar(&t.Stream, "stream", false, "the queues are streams")
	f.IntVar(&t.Messages, "messages", 10_000, "total number of messages, a multiple of -queues")
	f.IntVar(&t.Size, "size", 1024, "size of a message body in `bytes`")
	f.IntVar(&t.Goroutines, "goroutines", 1, "number of goroutines")
	f.IntVar(&t.Window, "window", 1024, "maximum number of unconfirmed messages")
	f.IntVar(&t.Prefetch, "prefetch", 300, "maximum number of unacknowledged deliveries per consumer")
	f.IntVar(&t.Multiple, "multiple", 0, "number of deliveries to acknowledge with one ack")
	f.StringVar(&t.How, "how", "", "`variant` of the program")
	f.StringVar(&t.Name, "name", "", "connection `name`")
	f.DurationVar(&t.For, "for", time.Second, "duration of the run")
	f.StringVar(&t.Database, "database", "", "`DSN` of PostgreSQL, or path of an SQLite file")
	f.IntVar(&t.Keys, "keys", 0, "number of ordering keys")
	f.StringVar(&t.Prepare, "prepare", "", "`variant` of the program that prepares the database")
	f.IntVar(&t.Rows, "rows", 0, "number of waiting messages before the run")
	f.IntVar(&t.DatabasePID, "database-pid", 0, "process `id` of the database")
	f.IntVar(&t.BrokerPID, "broker-pid", 0, "process `id` of the broker")
	f.StringVar(&t.Profile, "profile", "", "`file` for a CPU profile")
	return f
}

// Args returns command-line arguments that produce t.
func (t Task) Args() []string {
	var bound Task
	f := bound.flags()
	bound = t // the flags now have t's values
	var args []string
	f.VisitAll(func(g *flag.Flag) { // programs of an earlier commit may not have a flag
		if v := g.Value.String(); v != g.DefValue {
			args = append(args, "-"+g.Name+"="+v)
		}
	})
	return args
}

// Main is the main function of a program. It parses the flags, calls run and prints the result. It exits with status 1 on
// an error, or 2 if a flag is invalid.
func Main(run func(context.Context, Task) (Result, error)) {
	var t Task
	if err := t.flags().Parse(os.Args[1:]); err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	result, err := profiled(ctx, t, run)
	stop()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func profiled(ctx context.Context, t Task, run func(context.Context, Task) (Result, error)) (Result, error) {
	if t.Profile == "" {
		return run(ctx, t)
	}
	f, err := os.Create(t.Profile)
	if err != nil {
		return Result{}, err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return Result{}, err
	}
	defer pprof.StopCPUProfile()
	return run(ctx, t)
}
