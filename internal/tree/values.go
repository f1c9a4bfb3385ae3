package tree

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// Read calls the function of each key of a mapping. It reports unknown keys with the fix that hint returns, or with the
// known key that was probably meant.
func (f *Faults) Read(n *Node, keys map[string]func(*Node), hint func(key string) (fix string)) {
	if !f.is(n, Map) {
		return
	}
	for i, key := range n.Keys {
		if read := keys[key.Text]; read != nil {
			read(n.Items[i])
			continue
		}
		fix := ""
		if hint != nil {
			fix = hint(key.Text)
		}
		if near := validate.Similar(key.Text, slices.Collect(maps.Keys(keys))); fix == "" && near != "" {
			fix = fmt.Sprintf("did you mean %q?", near)
		}
		if fix == "" {
			fix = "use " + joined(slices.Sorted(maps.Keys(keys)))
		}
		f.Add(key, "is unknown", fix)
	}
}

func joined(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// is reports a value of another kind.
func (f *Faults) is(n *Node, kind Kind) bool {
	if n.Kind != kind {
		f.other(n, "write "+string(kind))
	}
	return n.Kind == kind
}

// other reports a value of a kind that does not fit.
func (f *Faults) other(n *Node, fix string) {
	switch n.Kind {
	case Null:
		f.Add(n, "has no value", fix+", or remove the key")
	case String:
		f.Add(n, "is the string "+validate.Quote(n.Text), fix)
	default:
		f.Add(n, "is "+string(n.Kind), fix)
	}
}

// Items returns the items of a list.
func (f *Faults) Items(n *Node) []*Node {
	if !f.is(n, List) {
		return nil
	}
	return n.Items
}

// Text returns a function that reads a string. Other scalars are read as they are written: a queue may be named 2026.
func (f *Faults) Text(to *string) func(*Node) {
	return func(n *Node) {
		switch n.Kind {
		case Null, List, Map, Date:
			f.is(n, String)
		default:
			*to = n.Text
		}
	}
}

// String is Text for a file in which strings are always quoted.
func (f *Faults) String(to *string) func(*Node) {
	return func(n *Node) {
		if f.is(n, String) {
			*to = n.Text
		}
	}
}

// Bool returns a function that reads true or false.
func (f *Faults) Bool(to *bool) func(*Node) {
	return func(n *Node) {
		if n.Kind == Bool || n.Expanded && (n.Text == "true" || n.Text == "false") {
			*to = n.Text == "true"
			return
		}
		f.other(n, "write true or false")
	}
}

var (
	whole   = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*)$`)
	digits  = regexp.MustCompile(`^[-+]?[0-9]+$`)
	decimal = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
)

// Whole reports whether a text is a whole number.
func Whole(text string) bool { return whole.MatchString(text) }

// Integer returns a whole number.
func (f *Faults) Integer(n *Node) (int64, bool) {
	switch v := f.number(n).(type) {
	case int64:
		return v, true
	case float64:
		f.Add(n, validate.Printable(n.Text)+" is not a whole number", "round it")
	}
	return 0, false
}

// number returns an int64 or a float64, or nil after a fault.
func (f *Faults) number(n *Node) any {
	if n.Kind != Number && !(n.Expanded && decimal.MatchString(n.Text)) {
		fix := "write a number"
		if n.Kind == String {
			fix += " without quotes"
		}
		f.other(n, fix)
		return nil
	}
	switch {
	case whole.MatchString(n.Text):
		i, err := strconv.ParseInt(n.Text, 10, 64)
		if err != nil {
			f.Add(n, n.Text+" does not fit into 64 bits", fmt.Sprintf("write a number up to %d", int64(math.MaxInt64)))
			return nil
		}
		return i
	case decimal.MatchString(n.Text) && !digits.MatchString(n.Text):
		v, err := strconv.ParseFloat(n.Text, 64)
		if err != nil {
			f.Add(n, validate.Printable(n.Text)+" is out of range", "write a smaller number")
			return nil
		}
		return v
	}
	f.Add(n, validate.Printable(n.Text)+" is not a decimal number", "write it without a prefix, leading zeros and underscores, or as a string in quotes")
	return nil
}

// Value returns any value that AMQP arguments can hold and a file can express: nil, bool, int64, float64, string, []any or
// amqp.Table.
func (f *Faults) Value(n *Node) any {
	switch n.Kind {
	case Null:
		return nil
	case Bool:
		return n.Text == "true"
	case Number:
		return f.number(n)
	case String:
		return n.Text
	case List:
		list := make([]any, len(n.Items))
		for i, item := range n.Items {
			list[i] = f.Value(item)
		}
		return list
	case Map:
		table := make(amqp.Table, len(n.Items))
		for i, item := range n.Items {
			table[n.Keys[i].Text] = f.Value(item)
		}
		return table
	}
	f.Add(n, "is "+string(n.Kind), "write it in quotes")
	return nil
}

// Duration returns a duration such as "1h30m" or "7d".
func (f *Faults) Duration(n *Node) (time.Duration, bool) {
	switch n.Kind {
	case String:
		if d, ok := ParseDuration(n.Text); ok {
			return d, true
		}
		if n.Expanded && whole.MatchString(n.Text) {
			break
		}
		f.Add(n, validate.Quote(n.Text)+" is not a duration", `write a number with a unit, such as "500ms", "30s", "1h30m" or "7d"`)
		return 0, false
	case Number:
	default:
		f.other(n, `write a duration such as "30s", "1h30m" or "7d"`)
		return 0, false
	}
	f.Add(n, validate.Printable(n.Text)+" has no unit", unitFix(n.Text))
	return 0, false
}

// unitFix suggests milliseconds, which RabbitMQ uses.
func unitFix(text string) string {
	ms, err := strconv.ParseInt(text, 10, 32)
	if err != nil || ms <= 0 {
		return "write a unit: ms, s, m, h or d"
	}
	fix := fmt.Sprintf("write %dms", ms)
	if d := FormatDuration(time.Duration(ms) * time.Millisecond); d != fmt.Sprintf("%dms", ms) {
		fix += " or " + d
	}
	return fix + " if it is in milliseconds"
}

var days = regexp.MustCompile(`^([0-9]{1,6})d(.*)$`)

// ParseDuration parses a duration of Go, which days may precede: "1d12h".
func ParseDuration(s string) (time.Duration, bool) {
	m := days.FindStringSubmatch(s)
	if m == nil {
		d, err := time.ParseDuration(s)
		return d, err == nil && strings.IndexFunc(s, func(r rune) bool { return r >= 'a' && r <= 'z' }) >= 0 // not "0"
	}
	n, _ := strconv.Atoi(m[1])
	if n > 106_751 { // the longest time.Duration
		return 0, false
	}
	d := time.Duration(n) * 24 * time.Hour
	if m[2] == "" {
		return d, true
	}
	rest, err := time.ParseDuration(m[2])
	if err != nil || rest < 0 || d+rest < d {
		return 0, false
	}
	return d + rest, true
}

// FormatDuration returns the shortest text that ParseDuration reads.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
