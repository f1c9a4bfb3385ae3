package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/amqpkit/amqpkit/integration/bench/side"
)

// figures are medians over the rounds. CPU and Allocs are per message.
type figures struct {
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"cpu_us"`
	Allocs    float64 `json:"allocs"`
	P50       float64 `json:"p50_us,omitempty"`
	P99       float64 `json:"p99_us,omitempty"`
	Gap       float64 `json:"gap_ms,omitempty"`

	// CPU is the time of the program's process. These are further times per message.
	DatabaseCPU float64 `json:"database_cpu_us,omitempty"`
	BrokerCPU   float64 `json:"broker_cpu_us,omitempty"`
	Query       float64 `json:"query_us,omitempty"` // sum of the durations of the statements
}

func summarize(results []side.Result) figures {
	of := func(f func(side.Result) float64) float64 {
		values := make([]float64, len(results))
		for i, r := range results {
			values[i] = f(r)
		}
		return median(values)
	}
	return figures{
		PerSecond: of(func(r side.Result) float64 { return float64(r.Messages) / r.Wall.Seconds() }),
		CPU:       of(func(r side.Result) float64 { return micros(r.CPU) / float64(r.Messages) }),
		Allocs:    of(func(r side.Result) float64 { return float64(r.Allocs) / float64(r.Messages) }),
		P50:       of(func(r side.Result) float64 { return micros(r.P50) }),
		P99:       of(func(r side.Result) float64 { return micros(r.P99) }),
		Gap:       of(func(r side.Result) float64 { return micros(r.Gap) / 1000 }),

		DatabaseCPU: of(func(r side.Result) float64 { return micros(r.DatabaseCPU) / float64(r.Messages) }),
		BrokerCPU:   of(func(r side.Result) float64 { return micros(r.BrokerCPU) / float64(r.Messages) }),
		Query:       of(func(r side.Result) float64 { return micros(r.QueryTime) / float64(r.Messages) }),
	}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// median returns the middle value, or the mean of the two middle values. It returns zero for no values.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

// A comparison is a measured row. Its ratios are amqpkit divided by amqp091-go.
type comparison struct {
	Row    string  `json:"row"`
	Note   string  `json:"note,omitempty"`
	Raw    figures `json:"raw"`
	Kit    figures `json:"amqpkit"`
	Rounds int     `json:"rounds"`
	Ratios *ratios `json:"ratio_of_rounds,omitempty"`
	AA     *spread `json:"raw_against_itself,omitempty"`
	base   *change // nil without an earlier commit
}

// ratios summarize the row's main ratio over its rounds: of gaps, of median latencies, or of messages per second.
type ratios struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`

	low, high float64 // the confidence interval of the median, see interval
}

func ratiosOf(values []float64) ratios {
	low, high := interval(values)
	return ratios{median(values), slices.Min(values), slices.Max(values), low, high}
}

// interval returns a confidence interval of the median: the values between the ranks that the binomial distribution gives
// for 95 %. Up to eight values, it is their range, whose confidence is 94 % with five values.
func interval(values []float64) (low, high float64) {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	below := math.Pow(0.5, float64(n)) // the probability that no value is below the true median
	term, k := below, 0                // k values may lie outside at each end
	for k < n/2-1 {
		term *= float64(n-k) / float64(k+1)
		if below+term > 0.025 {
			break
		}
		below += term
		k++
	}
	return s[k], s[n-1-k]
}

// stableWithin is the largest relative distance of a round from the median of its row. The figures of a row beyond it are unreliable.
const stableWithin = 0.15

func (r ratios) stable() bool {
	return r.Max <= r.Median*(1+stableWithin) && r.Min >= r.Median*(1-stableWithin)
}

func (r ratios) String() string { return fmt.Sprintf("%.2f (%.2f..%.2f)", r.Median, r.Min, r.Max) }

// exact returns the median and its confidence interval.
func (r ratios) exact() string { return fmt.Sprintf("%.3f(%.3f..%.3f)", r.Median, r.low, r.high) }

// inRounds compares the two sides in each round, where they ran in succession on the same machine under the same load.
func inRounds(work string, kit, raw []side.Result) *ratios {
	var of []float64
	for i := range min(len(kit), len(raw)) {
		k, r := kit[i], raw[i]
		switch work {
		case "recovery":
			of = append(of, ratio(micros(k.Gap), micros(r.Gap)))
		case "latency":
			of = append(of, ratio(micros(k.P50), micros(r.P50)))
		default:
			of = append(of, ratio(float64(k.Messages)/k.Wall.Seconds(), float64(r.Messages)/r.Wall.Seconds()))
		}
	}
	if len(of) == 0 {
		return nil
	}
	all := ratiosOf(of)
	return &all
}

// A spread compares two raw contenders: the ratios of their medians, and the lowest and highest p99 of all their rounds,
// relative to the median p99.
type spread struct {
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
	P99Min float64 `json:"p99_min"`
	P99Max float64 `json:"p99_max"`
}

func compare(r row, results map[string][]side.Result) comparison {
	c := comparison{
		Row: r.name, Note: r.note, Rounds: len(results[r.kit]),
		Raw: summarize(results[r.raw]), Kit: summarize(results[r.kit]),
	}
	c.Ratios = inRounds(c.work(), results[r.kit], results[r.raw])
	c.base = changeOf(results[r.kit], results[r.kit+onBase], results[r.kit+baseAgain])
	if again := results[againstItself]; again != nil {
		second := summarize(again)
		var p99s []float64
		for _, r := range slices.Concat(results[r.raw], again) {
			p99s = append(p99s, micros(r.P99))
		}
		mid := median(p99s)
		c.AA = &spread{second.P50 / c.Raw.P50, second.P99 / c.Raw.P99, slices.Min(p99s) / mid, slices.Max(p99s) / mid}
	}
	return c
}

// work is the first word of the row's name: publish, consume, both, latency, recovery or outbox.
func (c comparison) work() string { w, _, _ := strings.Cut(c.Row, "-"); return w }

// manyQueues reports whether the row varies the number of queues.
func (c comparison) manyQueues() bool { return strings.HasSuffix(c.Row, "q") }

func (c comparison) throughput() float64 { return ratio(c.Kit.PerSecond, c.Raw.PerSecond) }
func (c comparison) cpu() float64        { return ratio(c.Kit.CPU, c.Raw.CPU) }
func (c comparison) allocs() float64     { return ratio(c.Kit.Allocs, c.Raw.Allocs) }
func (c comparison) p50() float64        { return ratio(c.Kit.P50, c.Raw.P50) }
func (c comparison) p99() float64        { return ratio(c.Kit.P99, c.Raw.P99) }
func (c comparison) gap() float64        { return ratio(c.Kit.Gap, c.Raw.Gap) }

// databaseCPU is the ratio of the database's CPU times.
func (c comparison) databaseCPU() float64 { return ratio(c.Kit.DatabaseCPU, c.Raw.DatabaseCPU) }

// query is the ratio of the durations of statements.
func (c comparison) query() float64 { return ratio(c.Kit.Query, c.Raw.Query) }

func (f figures) allCPU() float64 { return f.CPU + f.DatabaseCPU + f.BrokerCPU }

func ratio(kit, raw float64) float64 { return kit / cmp.Or(raw, 1) }

// line is the machine-readable form: bench ROW ratio_throughput=… ratio_cpu=… ratio_allocs=… rounds=… median=… min=… max=…
func (c comparison) line() string {
	s := fmt.Sprintf("bench %s ratio_throughput=%.3f ratio_cpu=%.3f ratio_allocs=%.3f", c.Row, c.throughput(), c.cpu(), c.allocs())
	switch c.work() {
	case "latency":
		s += fmt.Sprintf(" ratio_p50=%.3f ratio_p99=%.3f", c.p50(), c.p99())
		if c.AA != nil {
			s += fmt.Sprintf(" aa_p50=%.3f aa_p99=%.3f aa_p99_min=%.3f aa_p99_max=%.3f", c.AA.P50, c.AA.P99, c.AA.P99Min, c.AA.P99Max)
		}
	case "outbox":
		s = c.outboxLine()
	case "recovery":
		s = fmt.Sprintf("bench %s ratio_gap=%.3f", c.Row, c.gap())
	}
	if c.Ratios != nil {
		s += fmt.Sprintf(" rounds=%d median=%.3f min=%.3f max=%.3f", c.Rounds, c.Ratios.Median, c.Ratios.Min, c.Ratios.Max)
	}
	return s
}
