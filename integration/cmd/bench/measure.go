package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

// A bench measures groups.
type bench struct {
	queues   queues
	programs programs
	progress io.Writer
	dbs      *databases // nil if no group uses one
	broker   int        // process id of the broker; zero if it is unknown
	shorten  time.Time  // after this time a group has three rounds only; zero means never
}

// queues manages the queues of a run.
type queues interface {
	// make declares queues of a type, and purges existing ones.
	make(ctx context.Context, queueType string, names []string) error
	// await waits until the queues hold this number of messages in all.
	await(ctx context.Context, names []string, messages int) error
	remove(ctx context.Context, names []string) error
	// cut closes the connection with this name by force, on the broker.
	cut(ctx context.Context, connection string) error
	url() string
}

// programs runs a program in a separate process.
type programs interface {
	run(ctx context.Context, program string, t side.Task) (side.Result, error)
}

// runTimeout bounds one run of one program.
const runTimeout = 2 * time.Minute

// prepareTimeout is the additional time to prepare a database.
const prepareTimeout = 3 * time.Minute

// leastRounds is the number of rounds of a group after bench.shorten.
const leastRounds = 3

// measure runs every contender once in each round and returns their results by name. An additional first round warms up the
// broker and the page cache; its results are discarded.
func (b *bench) measure(ctx context.Context, g group, rounds int) (results map[string][]side.Result, err error) {
	results = map[string][]side.Result{}
	prefix := freshPrefix()
	if g.reuse {
		defer func() { err = errors.Join(err, b.remove(ctx, g, prefix)) }()
	}
	if g.rounds > 0 {
		rounds = min(rounds, g.rounds)
	}
	for round := range rounds + 1 {
		if round > leastRounds && !b.shorten.IsZero() && time.Now().After(b.shorten) {
			break
		}
		for _, c := range g.contenders {
			if !g.reuse {
				prefix = freshPrefix()
			}
			result, err := b.once(ctx, g, c, prefix)
			if !g.reuse {
				err = errors.Join(err, b.remove(ctx, g, prefix))
			}
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", g.rows[0].name, c.name, err)
			}
			if round > 0 {
				results[c.name] = append(results[c.name], result)
			}
		}
	}
	return results, nil
}

// freshPrefix returns a unique prefix for the names of queues.
func freshPrefix() string { return "bench-" + rand.Text() }

func (b *bench) remove(ctx context.Context, g group, prefix string) error {
	names := side.Task{Queue: prefix, Queues: g.queues}.QueueNames()
	return b.queues.remove(context.WithoutCancel(ctx), names)
}

func (b *bench) once(ctx context.Context, g group, c contender, prefix string) (result side.Result, err error) {
	timeout := runTimeout
	if g.database != "" {
		timeout += prepareTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	t := c.task
	t.URL, t.Queue, t.Name = b.queues.url(), prefix, prefix
	names := t.QueueNames()
	if g.database != "" {
		b.dbs.use(&t, g.database)
		t.BrokerPID = b.broker
		filled := t
		filled.How, filled.Rows = t.Prepare, cmp.Or(t.Rows, t.Messages)
		if _, err := b.programs.run(ctx, "databases/prepare", filled); err != nil {
			return side.Result{}, fmt.Errorf("preparing: %w", err)
		}
	}
	if err := b.queues.make(ctx, g.queue, names); err != nil {
		return side.Result{}, err
	}
	if g.fill {
		filler := t
		filler.Window = 1024
		if _, err := b.programs.run(ctx, "raw/publish", filler); err != nil {
			return side.Result{}, fmt.Errorf("filling: %w", err)
		}
	}
	cut := make(chan error, 1)
	if g.cut {
		time.AfterFunc(cutAfter, func() { cut <- b.queues.cut(ctx, t.Name) })
	} else {
		cut <- nil
	}
	result, err = b.programs.run(ctx, c.program, t)
	if err == nil {
		err = <-cut
	}
	if err != nil || g.queue == "stream" { // a stream keeps consumed messages
		return result, err
	}
	switch g.left {
	case allMessages:
		err = b.queues.await(ctx, names, result.Messages)
	case noMessages:
		err = b.queues.await(ctx, names, 0)
	}
	return result, err
}

// all measures the groups and returns a comparison for each of their rows. It continues after a group that fails, and
// returns the errors of all failed groups.
func (b *bench) all(ctx context.Context, groups []group, rounds int) (compared []comparison, err error) {
	began := time.Now()
	for i, g := range groups {
		results, failed := b.measure(ctx, g, rounds)
		if rest, ok := g.missed(results); ok && failed == nil {
			var more map[string][]side.Result
			more, failed = b.measure(ctx, rest, moreRounds*rounds)
			for name, of := range more {
				results[name] = append(results[name], of...)
			}
		}
		if ctx.Err() != nil {
			return compared, errors.Join(err, failed)
		}
		at := fmt.Sprintf("%5.0fs  %d/%d", time.Since(began).Seconds(), i+1, len(groups))
		if failed != nil {
			fmt.Fprintf(b.progress, "%s  FAILED %v\n", at, failed)
			err = errors.Join(err, failed)
			continue
		}
		for _, r := range g.rows {
			c := compare(r, results)
			compared = append(compared, c)
			fmt.Fprintf(b.progress, "%s  %s\n", at, strings.TrimPrefix(c.line(), "bench "))
			_ = report{Rows: []comparison{c}}.printChanges(b.progress) // run returns the error
		}
	}
	return compared, err
}
