package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit/parking"
	"github.com/amqpkit/amqpkit/producer"
)

const parkedReplayHelp = `A message leaves the parking queue only after RabbitMQ has confirmed its copy.
An interrupted replay loses no message and can be run again; messages of its
last batch may be published twice, with the same message id.

Examples:

  $ amqpkit parked replay --error timeout --dry-run orders.parked
  would replay 1 of 2 messages, 1 stays parked

  $ amqpkit parked replay --error timeout --rate 10 orders.parked
  replayed 1 of 2 messages, 1 stays parked`

func (a *app) parkedReplayCommand() *cli.Command {
	return &cli.Command{
		Name: "replay", Usage: "publish messages to the queue where they failed", ArgsUsage: "QUEUE", Description: parkedReplayHelp, Action: a.parkedReplay,
		Flags: append(filterFlags(),
			&cli.StringFlag{Name: "to", Usage: "publish to the queue `NAME`, not to the one where the message failed"},
			&cli.IntFlag{Name: "limit", Usage: "replay at most `N` messages", HideDefault: true},
			&cli.FloatFlag{Name: "rate", Usage: "replay at most `N` messages a second", HideDefault: true},
			dryRunFlag()),
	}
}

func dryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "count the messages and change nothing"}
}

func (a *app) parkedReplay(ctx context.Context, c *cli.Command) error {
	queue, selected, limit, err := selection(c)
	if err != nil {
		return err
	}
	config := parking.ReplayConfig{Queue: queue, Match: selected.match, Limit: limit, Rate: c.Float("rate"), DryRun: c.Bool("dry-run")}
	if !(config.Rate >= 0) {
		return usage("--rate %v is not a rate; write messages per second", config.Rate)
	}
	if to := c.String("to"); to != "" {
		config.To = func(parking.Message) (string, string) { return "", to }
	}
	conn, err := a.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close(conn)
	if err := a.checkPeek(ctx, c, conn, queue, false); err != nil {
		return err
	}
	p, err := producer.New(conn, producer.Config{})
	if err != nil {
		return err
	}
	defer p.Close(context.WithoutCancel(ctx))
	r, err := replayWithProgress(a, config, func(config parking.ReplayConfig) (parking.ReplayResult, error) {
		return parking.Replay(ctx, conn, p, config)
	})
	return a.replayed(c, "replay", "replayed", r, err)
}

// replayWithProgress calls replay with a config that shows the progress.
func replayWithProgress(a *app, config parking.ReplayConfig, replay func(parking.ReplayConfig) (parking.ReplayResult, error)) (parking.ReplayResult, error) {
	var latest atomic.Pointer[parking.ReplayResult]
	latest.Store(new(parking.ReplayResult))
	config.Progress = func(r parking.ReplayResult) { latest.Store(&r) }
	shown := a.progress(func() string {
		r := latest.Load()
		return fmt.Sprintf("%s of %s, %s selected", group(r.Replayed+r.Kept+r.Skipped), count(r.Total, "message"), group(r.Replayed))
	})
	defer shown.end()
	return replay(config)
}

// replayed prints the result of a replay, or of a discard, which is the same without a target.
func (a *app) replayed(c *cli.Command, verb, participle string, r parking.ReplayResult, err error) error {
	if wantsJSON(c) {
		_ = printJSON(a.out, map[string]any{
			"total": r.Total, participle: r.Replayed, "kept": r.Total - r.Replayed, "skipped": r.Skipped, "dry_run": c.Bool("dry-run"),
		})
	} else {
		did := participle
		if c.Bool("dry-run") {
			did = "would " + verb
		}
		stay := "stay"
		if r.Total-r.Replayed == 1 {
			stay = "stays"
		}
		fmt.Fprintf(a.out, "%s %s of %s, %s %s parked\n", did, group(r.Replayed), count(r.Total, "message"), group(r.Total-r.Replayed), stay)
	}
	var skipped *parking.SkippedError
	if errors.As(err, &skipped) {
		return &codeError{exitUndelivered, a.describe(err)}
	}
	return err
}
