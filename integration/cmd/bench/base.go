package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

// Limits of a comparison with an earlier commit, for the median over the rounds of new divided by old.
const (
	leastThroughput = 0.95
	mostCPU         = 1.03
)

// onBase is the suffix in the name of a contender that was built from the earlier commit.
const onBase = " base"

// A change compares amqpkit with an earlier commit of itself.
type change struct {
	throughput, cpu ratios
}

// buildBase compiles amqpkit's programs at a commit into dir/base. The programs of that commit must accept today's flags.
func buildBase(ctx context.Context, dir, commit string) (err error) {
	tree := filepath.Join(dir, "tree")
	git := func(args ...string) error {
		if out, err := exec.CommandContext(ctx, "git", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w\n%s", args[0], err, out)
		}
		return nil
	}
	if err := git("worktree", "add", "--detach", tree, commit); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, git("worktree", "remove", "--force", tree)) }()
	into := filepath.Join(dir, "base") + string(filepath.Separator)
	if err := os.MkdirAll(into, 0o750); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", into, sources+"kit/...")
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", commit, err, out)
	}
	return nil
}

// withBase adds a contender of the earlier commit after each contender of amqpkit. It omits the groups that measure
// recovery or use a database.
func withBase(groups []group) []group {
	var compared []group
	for _, g := range groups {
		if g.cut || g.database != "" {
			continue
		}
		var contenders []contender
		for _, c := range g.contenders {
			if c.name == againstItself {
				continue
			}
			contenders = append(contenders, c)
			if program, ok := strings.CutPrefix(c.program, "kit/"); ok {
				contenders = append(contenders, contender{c.name + onBase, "base/" + program, c.task})
			}
		}
		g.contenders = contenders
		compared = append(compared, g)
	}
	return compared
}

// changeOf returns the ratios of the rounds of both commits, or nil if there is no base.
func changeOf(now, base []side.Result) *change {
	if len(base) == 0 {
		return nil
	}
	var throughput, cpu []float64
	for i := range min(len(now), len(base)) {
		n, b := summarize(now[i:i+1]), summarize(base[i:i+1])
		throughput = append(throughput, n.PerSecond/b.PerSecond)
		cpu = append(cpu, n.CPU/b.CPU)
	}
	return &change{ratiosOf(throughput), ratiosOf(cpu)}
}

func ratiosOf(values []float64) ratios {
	return ratios{median(values), slices.Min(values), slices.Max(values)}
}

// printChanges prints the comparisons with the base and returns an error if a row misses a limit.
func (r report) printChanges(w io.Writer) error {
	missed := 0
	for _, c := range r.Rows {
		if c.base == nil {
			continue
		}
		outcome := "ok"
		switch {
		case c.base.throughput.Median < leastThroughput || c.base.cpu.Median > mostCPU:
			outcome = "SLOWER"
		case strings.Contains(c.Row, "-64KiB") && c.Ratios.Median < 1:
			outcome = "SLOWER than raw"
		}
		if outcome != "ok" {
			missed++
		}
		fmt.Fprintf(w, "base %s throughput=%.3f (%.3f..%.3f) cpu=%.3f (%.3f..%.3f) raw_throughput=%.3f rounds=%d %s\n", c.Row,
			c.base.throughput.Median, c.base.throughput.Min, c.base.throughput.Max,
			c.base.cpu.Median, c.base.cpu.Min, c.base.cpu.Max, c.Ratios.Median, c.Rounds, outcome)
	}
	if missed > 0 {
		return fmt.Errorf("%d rows missed a limit (throughput at least %.2f and CPU at most %.2f of the base; for 64 KiB also the throughput of raw)",
			missed, leastThroughput, mostCPU)
	}
	return nil
}
