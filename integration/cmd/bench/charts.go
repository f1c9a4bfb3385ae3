package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
)

// A chart is the input of tools/charts. It has bars, one per label and series, or lines over the values of X.
type chart struct {
	File   string    `json:"file"`
	Title  string    `json:"title"`
	Unit   string    `json:"unit"`
	Labels []string  `json:"labels,omitempty"`
	X      []float64 `json:"x,omitempty"`
	XUnit  string    `json:"x_unit,omitempty"`
	Series []series  `json:"series"`
}

type series struct {
	Name   string    `json:"name"`
	Values []float64 `json:"values"`
}

// mainRows are the rows of the first two charts, with their labels. In each row both sides have the same number of messages in flight.
var mainRows = []struct{ row, label string }{
	{"publish-quorum-1KiB-1g", "publish, pipelined\n1,024 in flight"},
	{"publish-quorum-1KiB-16g-vs-window16", "publish\n16 in flight"},
	{"consume-quorum-1KiB", "consume\nprefetch 300"},
	{"both-quorum-1KiB", "both on one Conn\npublish and consume"},
}

// charts returns the charts that have measured rows.
func (r report) charts() []chart {
	perSecond := func(f figures) float64 { return f.PerSecond }
	cpu := func(f figures) float64 { return f.CPU }
	charts := []chart{
		r.bars("benchmarks-throughput.png", "Throughput, quorum queue, 1 KiB", "messages per second", perSecond),
		r.bars("benchmarks-cpu.png", "CPU time of the client, quorum queue, 1 KiB", "µs per message", cpu),
		r.byQueueType(),
		r.manyQueues(),
	}
	drawn := charts[:0]
	for _, c := range charts {
		if len(c.Labels)+len(c.X) > 0 {
			drawn = append(drawn, c)
		}
	}
	return drawn
}

// matching returns the comparisons of those rows that were measured.
func (r report) matching(rows ...string) []comparison {
	var found []comparison
	for _, row := range rows {
		for _, c := range r.Rows {
			if c.Row == row {
				found = append(found, c)
			}
		}
	}
	return found
}

func (r report) bars(file, title, unit string, of func(figures) float64) chart {
	c := chart{File: file, Title: title, Unit: unit, Series: []series{{Name: "amqp091-go"}, {Name: "amqpkit"}}}
	for _, m := range mainRows {
		for _, row := range r.matching(m.row) {
			c.Labels = append(c.Labels, m.label)
			c.Series[0].Values = append(c.Series[0].Values, of(row.Raw))
			c.Series[1].Values = append(c.Series[1].Values, of(row.Kit))
		}
	}
	return c
}

// byQueueType compares the throughputs for each queue type and message size. Both sides have at most 1,024 messages in flight.
func (r report) byQueueType() chart {
	c := chart{
		File: "benchmarks-queues.png", Title: "Throughput of amqpkit divided by throughput of amqp091-go", Unit: "ratio",
		Series: []series{{Name: "publish, pipelined"}, {Name: "consume"}, {Name: "both"}},
	}
	for _, queue := range queueTypes {
		for _, size := range sizes {
			id := queue + "-" + size.name
			rows := r.matching("publish-"+id+"-1g", "consume-"+id, "both-"+id)
			if len(rows) < len(c.Series) {
				continue
			}
			c.Labels = append(c.Labels, queue+"\n"+size.name)
			for i, row := range rows {
				c.Series[i].Values = append(c.Series[i].Values, row.throughput())
			}
		}
	}
	return c
}

func (r report) manyQueues() chart {
	c := chart{
		File: "benchmarks-many.png", Title: "CPU time of the client, 1 to 1,000 classic queues, 1 KiB", Unit: "µs per message", XUnit: "queues",
		Series: []series{{Name: "publish, amqp091-go"}, {Name: "publish, amqpkit"}, {Name: "consume, amqp091-go"}, {Name: "consume, amqpkit"}},
	}
	for _, n := range queueCounts {
		rows := r.matching(fmt.Sprintf("publish-classic-1KiB-%dq", n), fmt.Sprintf("consume-classic-1KiB-%dq", n))
		if len(rows) < 2 {
			continue
		}
		c.X = append(c.X, float64(n))
		for i, v := range []float64{rows[0].Raw.CPU, rows[0].Kit.CPU, rows[1].Raw.CPU, rows[1].Kit.CPU} {
			c.Series[i].Values = append(c.Series[i].Values, v)
		}
	}
	return c
}

// A drawer is the path of the compiled program tools/charts. That program is in the module of the tools, so that users of amqpkit do
// not depend on its library.
type drawer string

func newDrawer(ctx context.Context, dir string) (drawer, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "charts")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./charts")
	cmd.Dir = filepath.Join(root, "tools")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./charts: %w\n%s", err, out)
	}
	return drawer(program), nil
}

func (d drawer) draw(ctx context.Context, charts []chart, dir string) error {
	spec, err := json.Marshal(charts)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, string(d), "-out", dir)
	cmd.Stdin = bytes.NewReader(spec)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("charts: %w\n%s", err, out)
	}
	return nil
}
