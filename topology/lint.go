package topology

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// Lint reports mistakes and risks in t that it can find without a broker, for a version of RabbitMQ: the faults that
// [Topology.Validate] reports, features that the version refuses, ignores or treats differently, and objects that drop
// messages or have no effect. [LintRules] lists the rules, and docs/topology-lint.md explains them. Lint knows neither
// objects that are declared elsewhere nor policies, both of which may make a finding pointless: silence it then.
//
// version is a version as RabbitMQ reports it, such as "4.3" or "4.0.5", 3.13 at least. Without a patch it means the newest
// patch. Versions newer than 4.3 have the rules of 4.3. Empty means 4.3.
//
// silence contains the ids of rules to leave out. "unbounded-queue" leaves out all findings of a rule,
// "unbounded-queue@audit" only those for the queue or exchange named audit; a binding has the name of its destination.
//
// Findings are sorted by severity, then by the place of the object in t. The error is a [*amqperr.FieldError] for a
// malformed version and for an unknown id in silence; several are joined.
func (t Topology) Lint(version string, silence ...string) ([]Finding, error) {
	r, err := parseRelease(version)
	silenced, wrong := silences(silence)
	if err := errors.Join(append(wrong, err)...); err != nil {
		return nil, err
	}
	l := newLinter(t, r, silenced)
	for i := range rules {
		l.rule = &rules[i]
		if l.rule.appliesTo(r) {
			l.rule.check(l)
		}
	}
	slices.SortStableFunc(l.found, found.compare)
	all := make([]Finding, len(l.found))
	for i, f := range l.found {
		all[i] = f.Finding
	}
	return all, nil
}

func (r *rule) appliesTo(v release) bool {
	return !v.before(r.from) && (r.before == release{} || v.before(r.before))
}

// silences checks the ids to leave out.
func silences(silence []string) (all map[string]bool, wrong []error) {
	ids := make([]string, len(rules))
	for i, r := range rules {
		ids[i] = r.id
	}
	all = map[string]bool{}
	for i, s := range silence {
		id, _, _ := strings.Cut(s, "@")
		if !slices.Contains(ids, id) {
			fix := "use an id of LintRules"
			if near := validate.Similar(id, ids); near != "" {
				fix = fmt.Sprintf("did you mean %q?", near)
			}
			wrong = append(wrong, &amqperr.FieldError{
				Package: "topology", Field: fmt.Sprintf("silence[%d]", i), Problem: validate.Quote(id) + " is not the id of a rule", Fix: fix,
			})
		}
		all[s] = true
	}
	return all, wrong
}

// A linter runs the rules over a topology.
type linter struct {
	*routing
	release    release
	silenced   map[string]bool
	args       []amqp.Table // of each queue
	alternates []string     // of each exchange, or ""
	deadLetter *deadLetterRoutes

	rule  *rule // that runs
	found []found
}

func newLinter(t Topology, r release, silenced map[string]bool) *linter {
	l := &linter{
		routing: newRouting(t), release: r, silenced: silenced,
		args: make([]amqp.Table, len(t.Queues)), alternates: make([]string, len(t.Exchanges)),
	}
	l.connect()
	for i, q := range t.Queues {
		l.args[i] = q.request().args
	}
	for i, x := range t.Exchanges {
		l.alternates[i], _ = x.request().args["alternate-exchange"].(string)
	}
	l.deadLetter = newDeadLetterRoutes(l)
	return l
}

// found is a finding and the position of its object.
type found struct {
	Finding
	list, index int
}

func (f found) compare(other found) int {
	rank := func(f found) int {
		return slices.Index([]Severity{SeverityError, SeverityWarning, SeverityNote}, f.Severity)
	}
	return cmp.Or(cmp.Compare(rank(f), rank(other)), cmp.Compare(f.list, other.list), cmp.Compare(f.index, other.index))
}

// A subject is an object of the topology that a rule is about.
type subject struct {
	list, index int    // 0 Exchanges, 1 Queues, 2 Bindings
	at          string // `Queues[0] "orders"`
	object      string // `queue "orders"`
	name        string // for silence
}

func (l *linter) exchange(i int) subject {
	name := l.Exchanges[i].Name
	return subject{0, i, place("Exchanges", i, name), object{"exchange", name}.String(), name}
}

func (l *linter) queue(i int) subject {
	name := l.Queues[i].Name
	return subject{1, i, place("Queues", i, name), object{"queue", name}.String(), name}
}

func (l *linter) binding(i int) subject {
	b := l.Bindings[i]
	return subject{2, i, fmt.Sprintf("Bindings[%d]", i), b.label(), cmp.Or(b.Queue, b.Exchange)}
}

// subject returns the object that a field belongs to.
func (l *linter) subject(field string) subject {
	var i int
	for _, list := range []struct {
		format string
		of     func(int) subject
	}{{"Exchanges[%d]", l.exchange}, {"Queues[%d]", l.queue}, {"Bindings[%d]", l.binding}} {
		if _, err := fmt.Sscanf(field, list.format, &i); err == nil {
			return list.of(i)
		}
	}
	return subject{at: field, object: "topology"}
}

// report adds a finding of the rule that runs, unless it is silenced.
func (l *linter) report(s subject, field, problem, consequence, fix string) {
	id := l.rule.id
	if l.silenced[id] || l.silenced[id+"@"+s.name] {
		return
	}
	l.found = append(l.found, found{Finding{id, l.rule.severity, s.object, s.at + field, problem, consequence, fix}, s.list, s.index})
}

// invalid reports the faults that Validate finds.
func (l *linter) invalid() {
	for _, err := range l.faults() {
		var f *amqperr.FieldError
		if !errors.As(err, &f) {
			continue
		}
		s := l.subject(f.Field)
		l.report(s, strings.TrimPrefix(f.Field, s.at), f.Problem, "Validate and Declare refuse the topology", f.Fix)
	}
}

// field returns the field of q that sets an argument, or the field of Arguments.
func (q Queue) field(key string) string {
	for _, a := range q.typed() {
		if a.key == key {
			return "." + a.field
		}
	}
	return raw(key)
}
