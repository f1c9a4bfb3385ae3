package docs

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/examples/testing/billing"
	"github.com/amqpkit/amqpkit/retry"
	"github.com/amqpkit/amqpkit/topology"
)

func TestPageTopologyLintListsEveryRule(t *testing.T) {
	var got, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\| (\\w+) \\| ([^|]+) \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(pages(t)["docs/topology-lint.md"], -1) {
		got = append(got, m[1]+", "+m[2]+", "+m[3])
	}
	for _, r := range topology.LintRules() {
		versions := "all"
		switch {
		case r.From != "":
			versions = "from " + r.From
		case r.Before != "":
			versions = "before " + r.Before
		}
		want = append(want, r.ID+", "+string(r.Severity)+", "+versions)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the page lists\n%q\nand the rules are\n%q", got, want)
	}
}

func shownFindings() ([]topology.Finding, error) {
	return orders.Lint("4.3", "unbounded-queue", "nack-not-counted@billing")
}

// The topologies of the documentation and of retry plans have only the findings that their authors intend.
func TestDocumentedTopologiesPassTheLint(t *testing.T) {
	plan := func(c retry.Config) topology.Topology {
		p, err := retry.New(c)
		if err != nil {
			t.Fatal(err)
		}
		return p.Topology()
	}
	events, _ := stream()
	schedule := retry.Schedule(time.Second, time.Minute)
	for name, test := range map[string]struct {
		topology topology.Topology
		want     []string // in addition to unbounded queues
	}{
		"README":               {orders, []string{`nack-not-counted queue "billing"`}},
		"recipes, a stream":    {events, nil},
		"recipes, Celery":      {celery(), nil},
		"examples, hello":      {topology.Queues("hello"), []string{`default-delivery-limit queue "hello"`}},
		"examples, publishers": {topology.Topology{Exchanges: []topology.Exchange{{Name: "logs", Type: topology.Fanout}}}, nil},
		"examples, testing": {billing.Topology, []string{
			`default-delivery-limit queue "invoices"`, `default-delivery-limit queue "reminders"`,
		}},
		"retry": {plan(retry.Config{Queue: "orders", Policy: schedule, Source: &topology.Queue{}}), nil},
		"retry of a classic queue": {
			plan(retry.Config{Queue: "orders", Policy: schedule, Source: &topology.Queue{Type: topology.Classic}}), nil,
		},
		"retry, the source is declared elsewhere": {
			plan(retry.Config{Queue: "orders", Policy: schedule}), []string{`unknown-dead-letter-queue queue "orders"`},
		},
		"retry, merged with the source": {
			topology.Merge(orders, plan(retry.Config{Queue: "billing", Policy: schedule})), []string{`nack-not-counted queue "billing"`},
		},
	} {
		findings, err := test.topology.Lint("4.3", "unbounded-queue")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range findings {
			got = append(got, f.ID+" "+f.Object)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: Lint found %q, want %q", name, got, test.want)
		}
	}
	if findings, err := shownFindings(); err != nil || len(findings) > 0 {
		t.Errorf("Lint = %v, %v", findings, err)
	}
}
