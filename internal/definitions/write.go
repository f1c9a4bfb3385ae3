package definitions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Problem is an argument that JSON cannot hold.
type Problem struct {
	List  string // "exchanges", "queues" or "bindings"
	Index int
	*validate.Problem
}

// Write returns the JSON text of f.
func Write(f File) (data []byte, problems []Problem) {
	convert := func(list string, i int, arguments amqp.Table) amqp.Table {
		plain, p := Plain(arguments)
		if p != nil {
			problems = append(problems, Problem{list, i, p})
		}
		return plain
	}
	out := File{Exchanges: append([]Exchange{}, f.Exchanges...), Queues: append([]Queue{}, f.Queues...), Bindings: append([]Binding{}, f.Bindings...)}
	for i := range out.Exchanges {
		out.Exchanges[i].Arguments = convert("exchanges", i, out.Exchanges[i].Arguments)
	}
	for i := range out.Queues {
		out.Queues[i].Arguments = convert("queues", i, out.Queues[i].Arguments)
	}
	for i := range out.Bindings {
		out.Bindings[i].Arguments = convert("bindings", i, out.Bindings[i].Arguments)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		panic(fmt.Sprintf("definitions: %v", err)) // Plain returns only values that have a JSON form
	}
	return b.Bytes(), nil
}

// Plain returns a copy of arguments with the types that a file can hold: nil, bool, string, int64, Float, []any and
// amqp.Table. Any other value is a problem.
func Plain(arguments amqp.Table) (amqp.Table, *validate.Problem) {
	return plainTable(arguments, 0)
}

func plainTable(from amqp.Table, depth int) (amqp.Table, *validate.Problem) {
	table := make(amqp.Table, len(from))
	for _, key := range slices.Sorted(maps.Keys(from)) {
		plain, p := value(from[key], depth)
		if p == nil {
			p = checkText(key)
		}
		if p != nil {
			p.Field = "[" + validate.Quote(key) + "]" + p.Field
			return nil, p
		}
		table[key] = plain
	}
	return table, nil
}

func value(v any, depth int) (any, *validate.Problem) {
	if depth > validate.MaxDepth {
		return nil, &validate.Problem{Problem: fmt.Sprintf("tables are nested deeper than %d", validate.MaxDepth), Fix: "flatten them"}
	}
	switch v := v.(type) {
	case nil, bool:
		return v, nil
	case string:
		return v, checkText(v)
	case amqp.Table:
		return plainTable(v, depth+1)
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			plain, p := value(item, depth+1)
			if p != nil {
				p.Field = "[" + strconv.Itoa(i) + "]" + p.Field
				return nil, p
			}
			list[i] = plain
		}
		return list, nil
	}
	switch r := reflect.ValueOf(v); {
	case r.CanInt() && r.Type().PkgPath() == "":
		return r.Int(), nil
	case r.CanUint() && r.Uint() <= math.MaxInt64:
		return int64(r.Uint()), nil //nolint:gosec // the case has checked it
	case r.CanFloat() && !math.IsNaN(r.Float()) && !math.IsInf(r.Float(), 0):
		return Float(r.Float()), nil
	}
	return nil, &validate.Problem{Problem: fmt.Sprintf("a %T has no form in a file", v), Fix: "use a string, a bool, an int64 or a float64"}
}

func checkText(s string) *validate.Problem {
	if utf8.ValidString(s) {
		return nil
	}
	return &validate.Problem{Problem: "is not UTF-8", Fix: "use UTF-8"}
}

// A Float is a float64 whose text differs from the one of an integer.
type Float float64

// String returns the shortest text with a decimal point or an exponent.
func (f Float) String() string {
	s := strconv.FormatFloat(float64(f), 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// MarshalJSON returns the text.
func (f Float) MarshalJSON() ([]byte, error) { return []byte(f.String()), nil }
