package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
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

// Suffixes in the names of contenders that were built from the earlier commit. The second one runs the same program as the
// first: their difference is noise.
const (
	onBase    = " base"
	baseAgain = " base again"
)

// moreRounds is the factor for the number of additional rounds of rows that missed a limit.
const moreRounds = 3

// A change compares amqpkit with an earlier commit of itself.
type change struct {
	throughput, cpu ratios  // of today's commit, relative to the mean of the two runs of the earlier one
	control         control // of the earlier commit, relative to itself
}

type control struct {
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

// withBase adds two contenders of the earlier commit around each contender of amqpkit. It omits the groups that measure
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
			program, ok := strings.CutPrefix(c.program, "kit/")
			if !ok {
				contenders = append(contenders, c)
				continue
			}
			program = "base/" + program
			contenders = append(contenders, contender{c.name + onBase, program, c.task}, c, contender{c.name + baseAgain, program, c.task})
		}
		g.contenders = contenders
		compared = append(compared, g)
	}
	return compared
}

// changeOf returns the ratios of the rounds of both commits, or nil if there is no base.
func changeOf(now, base, again []side.Result) *change {
	if len(base) == 0 {
		return nil
	}
	var throughput, cpu, sameThroughput, sameCPU []float64
	for i := range min(len(now), len(base), len(again)) {
		n, b, a := summarize(now[i:i+1]), summarize(base[i:i+1]), summarize(again[i:i+1])
		throughput = append(throughput, 2*n.PerSecond/(b.PerSecond+a.PerSecond))
		cpu = append(cpu, 2*n.CPU/(b.CPU+a.CPU))
		sameThroughput = append(sameThroughput, a.PerSecond/b.PerSecond)
		sameCPU = append(sameCPU, a.CPU/b.CPU)
	}
	return &change{ratiosOf(throughput), ratiosOf(cpu), control{ratiosOf(sameThroughput), ratiosOf(sameCPU)}}
}

// Outcomes of a comparison with the base.
const (
	fine    = "ok"
	unclear = "unclear" // a median misses a limit, and the limit is in its confidence interval
	slower  = "SLOWER"
)

// outcome compares the medians with the limits. A row of 64 KiB must also reach the throughput of raw.
func (c comparison) outcome() string {
	if c.base == nil {
		return fine
	}
	b, least := c.base, math.Inf(-1)
	if strings.Contains(c.Row, "-64KiB") {
		least = 1
	}
	switch {
	case b.throughput.high < leastThroughput, b.cpu.low > mostCPU, c.Ratios.high < least:
		return slower
	case b.throughput.Median < leastThroughput, b.cpu.Median > mostCPU, c.Ratios.Median < least:
		return unclear
	}
	return fine
}

// missed returns the group with the rows that missed a limit, or false if none did.
func (g group) missed(results map[string][]side.Result) (group, bool) {
	rest := only([]group{g}, func(name string) bool {
		return slices.ContainsFunc(g.rows, func(r row) bool { return r.name == name && compare(r, results).outcome() != fine })
	})
	if len(rest) == 0 {
		return group{}, false
	}
	return rest[0], true
}

// printChanges prints the comparisons with the base and returns an error if a row is slower.
func (r report) printChanges(w io.Writer) error {
	missed := 0
	for _, c := range r.Rows {
		if c.base == nil {
			continue
		}
		outcome, b := c.outcome(), c.base
		if outcome == slower {
			missed++
		}
		fmt.Fprintf(w, "base %s throughput=%s cpu=%s control_throughput=%s control_cpu=%s raw_throughput=%s rounds=%d %s\n", c.Row,
			b.throughput.exact(), b.cpu.exact(), b.control.throughput.exact(), b.control.cpu.exact(), c.Ratios.exact(), c.Rounds, outcome)
	}
	if missed > 0 {
		return fmt.Errorf("%d rows are slower (throughput below %.2f or CPU above %.2f of the base; for 64 KiB also throughput below that of raw)",
			missed, leastThroughput, mostCPU)
	}
	return nil
}
