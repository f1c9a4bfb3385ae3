// Command cost measures what amqpkit's care costs where nothing goes wrong: the same messages over amqp091-go alone,
// over amqp091-go on amqpkit's transport, and through amqpkit, in one run, taking turns. It prints medians and ratios.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

func main() {
	messages := flag.Int("n", 20_000, "messages in each round")
	rounds := flag.Int("rounds", 5, "rounds of every side")
	size := flag.Int("size", 256, "bytes of a body")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	err := run(ctx, os.Stdout, *messages, *rounds, *size)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cost:", err)
		os.Exit(1)
	}
}

// A side is one way to do the work. work moves all messages and returns when the last one is confirmed, or acked.
type side struct {
	name string
	work func(ctx context.Context, e *env) error
}

// Each group's first side is what the others are compared with.
var groups = [][]side{
	{
		{"publish  amqp091-go, pipelined", publishRaw(plainSocket)},
		{"publish  amqp091-go on amqpkit's transport", publishRaw(transport)},
		{"publish  amqpkit, PublishAsync", publishAmqpkit},
	},
	{
		{"consume  amqp091-go, acked one by one", consumeRaw(plainSocket)},
		{"consume  amqp091-go on amqpkit's transport", consumeRaw(transport)},
		{"consume  amqpkit", consumeAmqpkit},
	},
}

// A sample is what one round took, a message.
type sample struct{ wall, cpu, allocs float64 }

func run(ctx context.Context, out io.Writer, messages, rounds, size int) error {
	b, err := rabbit.Start(ctx, rabbit.Options{})
	if err != nil {
		return err
	}
	defer b.Close(context.WithoutCancel(ctx))
	e := &env{url: b.URL(), queue: "cost", messages: messages, body: make([]byte, size)}
	fmt.Fprintf(out, "%s\nquorum queue, %d B, %d messages a round, medians of %d rounds\n\n", b, size, messages, rounds)
	fmt.Fprintf(out, "%-46s %10s %8s %8s   %s\n", "", "messages/s", "CPU µs", "allocs", "ratio: messages/s, CPU, allocs")
	for _, sides := range groups {
		samples := make([][]sample, len(sides))
		for round := range rounds + 1 {
			for i, s := range sides {
				got, err := e.measure(ctx, s)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				if round > 0 { // the first one warms up
					samples[i] = append(samples[i], got)
				}
			}
		}
		var base sample
		for i, s := range sides {
			m := medians(samples[i])
			if i == 0 {
				base = m
			}
			fmt.Fprintf(out, "%-46s %10.0f %8.1f %8.1f   %.2f  %.2f  %.2f\n",
				s.name, 1e6/m.wall, m.cpu, m.allocs, base.wall/m.wall, m.cpu/base.cpu, m.allocs/base.allocs)
		}
	}
	return nil
}

func (e *env) measure(ctx context.Context, s side) (sample, error) {
	if err := e.prepare(s); err != nil {
		return sample{}, err
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, began := cpuTime(), time.Now()
	if err := s.work(ctx, e); err != nil {
		return sample{}, err
	}
	wall, cpu := time.Since(began), cpuTime()-cpu
	runtime.ReadMemStats(&after)
	n := float64(e.messages)
	return sample{float64(wall.Microseconds()) / n, float64(cpu.Microseconds()) / n, float64(after.Mallocs-before.Mallocs) / n}, nil
}

// cpuTime is what this process has used, in user and system mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func medians(s []sample) sample {
	median := func(f func(sample) float64) float64 {
		values := make([]float64, len(s))
		for i := range s {
			values[i] = f(s[i])
		}
		slices.SortFunc(values, cmp.Compare[float64])
		return values[len(values)/2]
	}
	return sample{
		median(func(s sample) float64 { return s.wall }),
		median(func(s sample) float64 { return s.cpu }),
		median(func(s sample) float64 { return s.allocs }),
	}
}
