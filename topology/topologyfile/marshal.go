package topologyfile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.yaml.in/yaml/v3"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/definitions"
	"github.com/amqpkit/amqpkit/internal/tree"
	"github.com/amqpkit/amqpkit/internal/validate"
	"github.com/amqpkit/amqpkit/topology"
)

// Marshal returns t in the YAML form. [Parse] of the result returns t again, if t is valid. Equal objects are written once.
//
// Each part of t that the form cannot hold is a [*amqperr.FieldError]: an object that another one of the same name
// contradicts, a binding with two destinations, arguments of the types []byte, time.Time and amqp.Decimal, and strings that
// are not UTF-8.
func Marshal(t topology.Topology) ([]byte, error) {
	t = topology.Merge(t)
	if err := check(t); err != nil {
		return nil, err
	}
	root := mapping{block: true}
	root.set(len(t.Exchanges) > 0, "exchanges", exchanges(t))
	root.set(len(t.Queues) > 0, "queues", queues(t))
	root.set(len(t.Bindings) > 0, "bindings", bindings(t))
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(root.node()), enc.Close()); err != nil {
		return nil, fmt.Errorf("topology: %w", err)
	}
	return b.Bytes(), nil
}

// check finds the parts of t that a file cannot hold: the ones that definitions cannot hold, except exclusive queues, and
// several objects of one name.
func check(t topology.Topology) error {
	var errs []error
	once := func(seen map[string]int, list string, i int, name string) {
		if first, ok := seen[name]; ok {
			errs = append(errs, &amqperr.FieldError{
				Package: "topology", Field: fmt.Sprintf("%s[%d] %s.Name", list, i, validate.Quote(name)),
				Problem: fmt.Sprintf("is also the name of %s[%d], which differs", list, first), Fix: "declare it once, or make both equal",
			})
		}
		seen[name] = i
	}
	names := map[string]int{}
	for i, x := range t.Exchanges {
		once(names, "Exchanges", i, x.Name)
	}
	t.Queues = slices.Clone(t.Queues)
	names = map[string]int{}
	for i, q := range t.Queues {
		once(names, "Queues", i, q.Name)
		t.Queues[i].Exclusive = false
	}
	_, err := t.Definitions("")
	return errors.Join(append(errs, err)...)
}

func exchanges(t topology.Topology) *yaml.Node {
	all := mapping{block: true}
	for _, x := range t.Exchanges {
		var m mapping
		m.text("type", string(x.Type))
		m.set(x.Transient, "durable", plain("!!bool", "false"))
		m.flag("auto_delete", x.AutoDelete)
		m.flag("internal", x.Internal)
		m.text("alternate_exchange", x.AlternateExchange)
		m.arguments(x.Arguments, x.AllowUnknownArguments)
		all.set(true, x.Name, m.node())
	}
	return all.node()
}

func queues(t topology.Topology) *yaml.Node {
	all := mapping{block: true}
	for _, q := range t.Queues {
		m := mapping{block: true}
		m.text("type", string(q.Type))
		m.set(q.Transient, "durable", plain("!!bool", "false"))
		m.flag("exclusive", q.Exclusive)
		m.flag("auto_delete", q.AutoDelete)
		m.duration("message_ttl", q.MessageTTL)
		m.duration("expires", q.Expires)
		m.number("max_length", q.MaxLength)
		m.number("max_length_bytes", q.MaxLengthBytes)
		m.text("overflow", q.Overflow)
		m.number("max_priority", int64(q.MaxPriority))
		if d := q.DeadLetter; d != nil {
			var letter mapping
			letter.text("exchange", d.Exchange)
			letter.text("routing_key", d.RoutingKey)
			letter.text("strategy", d.Strategy)
			m.set(true, "dead_letter", letter.node())
		}
		if l := q.DeliveryLimit; l != nil && *l == topology.Unlimited {
			m.text("delivery_limit", "unlimited")
		} else if l != nil {
			m.set(true, "delivery_limit", plain("!!int", strconv.Itoa(*l)))
		}
		if d := q.DelayedRetry; d != nil {
			var retry mapping
			retry.duration("min", d.Min)
			retry.duration("max", d.Max)
			retry.text("type", d.Type)
			m.set(true, "delayed_retry", retry.node())
		}
		m.flag("single_active_consumer", q.SingleActiveConsumer)
		m.text("leader_locator", q.LeaderLocator)
		m.duration("max_age", q.MaxAge)
		m.number("max_segment_bytes", q.MaxSegmentBytes)
		m.arguments(q.Arguments, q.AllowUnknownArguments)
		all.set(true, q.Name, m.node())
	}
	return all.node()
}

func bindings(t topology.Topology) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, b := range t.Bindings {
		var m mapping
		m.text("source", b.Source)
		m.text("queue", b.Queue)
		m.text("exchange", b.Exchange)
		m.text("key", b.Key)
		m.arguments(b.Arguments, b.AllowUnknownArguments)
		list.Content = append(list.Content, m.node())
	}
	return list
}

// value returns the node of a value of [definitions.Plain].
func value(v any) *yaml.Node {
	switch v := v.(type) {
	case nil:
		return plain("!!null", "null")
	case bool:
		return plain("!!bool", strconv.FormatBool(v))
	case int64:
		return plain("!!int", strconv.FormatInt(v, 10))
	case definitions.Float:
		return plain("!!float", v.String())
	case string:
		return text(v)
	case []any:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range v {
			list.Content = append(list.Content, value(item))
		}
		return list
	}
	var m mapping
	table, _ := v.(amqp.Table)
	for _, key := range slices.Sorted(maps.Keys(table)) {
		m.set(true, key, value(table[key]))
	}
	return m.node()
}

// A mapping is written on one line unless block is set.
type mapping struct {
	block   bool
	content []*yaml.Node
}

func (m *mapping) set(is bool, key string, value *yaml.Node) {
	if is {
		m.content = append(m.content, text(key), value)
	}
}

func (m *mapping) text(key, s string)         { m.set(s != "", key, text(s)) }
func (m *mapping) flag(key string, b bool)    { m.set(b, key, plain("!!bool", "true")) }
func (m *mapping) number(key string, n int64) { m.set(n != 0, key, value(n)) }
func (m *mapping) duration(key string, d time.Duration) {
	m.set(d != 0, key, text(tree.FormatDuration(d)))
}

func (m *mapping) arguments(arguments amqp.Table, allow bool) {
	table, _ := definitions.Plain(arguments) // check has found values without a form
	m.set(len(table) > 0, "arguments", value(table))
	m.flag("allow_unknown_arguments", allow)
}

func (m *mapping) node() *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Content: m.content}
	if !m.block || len(m.content) == 0 {
		n.Style = yaml.FlowStyle
	}
	return n
}

func plain(tag, s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: s}
}

var (
	bare  = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_./-]*|([0-9]+(\.[0-9]+)?(d|h|m|s|ms|us|ns))+)$`) // a word or a duration
	other = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}                      // in YAML 1.1
)

// text returns the node of a string, in quotes if any version of YAML would read it as something else.
func text(s string) *yaml.Node {
	n := plain("!!str", strings.ReplaceAll(s, "${", "$${"))
	if !bare.MatchString(s) || slices.Contains(other, strings.ToLower(s)) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}
