package wire

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func nested(depth int) amqp.Table {
	t := amqp.Table{}
	for range depth - 1 {
		t = amqp.Table{"t": t}
	}
	return t
}

func cyclic() amqp.Table {
	t := amqp.Table{}
	t["a"] = []any{t}
	return t
}

func entries(n int) amqp.Table {
	t := amqp.Table{}
	for i := range n {
		t[fmt.Sprint(i)] = true
	}
	return t
}

func TestTableTakesWhatAMQPCanCarry(t *testing.T) {
	for name, table := range map[string]amqp.Table{
		"nil":        nil,
		"every type": {"a": nil, "b": true, "c": int8(1), "d": uint8(1), "e": int16(1), "f": uint16(1), "g": int32(1), "h": uint32(1), "i": 1, "j": int64(1), "k": float32(1), "l": 1.5, "m": amqp.Decimal{Scale: 1, Value: 2}, "n": "s", "o": []byte("b"), "p": time.Now(), "q": amqp.Table{"r": []any{1, "s"}}},
		"deepest":    nested(MaxDepth),
		"longest":    entries(MaxEntries),
		"long key":   {strings.Repeat("k", 255): 1},
		"large":      {"x": strings.Repeat("x", MaxHeaders-50)},
	} {
		if p := Table(table); p != nil {
			t.Errorf("%s: %+v", name, p)
		}
		if err := table.Validate(); err != nil {
			t.Errorf("%s: amqp091-go refuses what Table takes: %v", name, err)
		}
	}
}

func TestTableNamesTheFieldAndTheFix(t *testing.T) {
	for name, c := range map[string]struct {
		table       amqp.Table
		field, word string
	}{
		"cyclic":       {cyclic(), `["a"][0]["a"][0]`, "nested deeper"},
		"too deep":     {nested(MaxDepth + 2), `["t"]`, "nested deeper"},
		"too many":     {entries(MaxEntries + 1), `["`, "entries"},
		"too large":    {amqp.Table{"x": strings.Repeat("x", MaxHeaders)}, `["x"]`, "larger than"},
		"long key":     {amqp.Table{strings.Repeat("k", 256): 1}, `["kkk`, "longer than 255"},
		"key no UTF-8": {amqp.Table{"\xff": 1}, `["\xff"]`, "UTF-8"},
		"NaN":          {amqp.Table{"n": []any{math.NaN()}}, `["n"][0]`, "no number"},
		"Inf":          {amqp.Table{"n": float32(math.Inf(1))}, `["n"]`, "no number"},
		"uint64":       {amqp.Table{"n": uint64(1)}, `["n"]`, "int64"},
		"[]string":     {amqp.Table{"n": []string{"a"}}, `["n"]`, "[]any"},
		"map":          {amqp.Table{"n": map[string]any{}}, `["n"]`, "amqp.Table"},
		"Duration":     {amqp.Table{"n": time.Second}, `["n"]`, "milliseconds"},
		"deep fault":   {amqp.Table{"a": amqp.Table{"b": []any{1, struct{}{}}}}, `["a"]["b"][1]`, "struct {}"},
	} {
		p := Table(c.table)
		if p == nil || !strings.HasPrefix(p.Field, c.field) || !strings.Contains(p.Problem+p.Fix, c.word) || p.Fix == "" {
			t.Errorf("%s: %+v, want field %s… and the word %q", name, p, c.field, c.word)
		}
	}
}

func TestExpirationIsWholeMilliseconds(t *testing.T) {
	for _, s := range []string{"", "0", "1", "60000", "315360000000"} {
		if p := Expiration(s); p != nil {
			t.Errorf("%q: %+v", s, p)
		}
	}
	for _, s := range []string{"-1", "1.5", " 5", "5 ", "+5", "05", "abc", "1e3", "315360000001", "99999999999999999999", "0x10", "1_000"} {
		if p := Expiration(s); p == nil || p.Fix == "" {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestNamesAreShortUTF8(t *testing.T) {
	for s, ok := range map[string]bool{"": true, "orders": true, strings.Repeat("é", 127): true, strings.Repeat("é", 128): false, strings.Repeat("x", 255): true, strings.Repeat("x", 256): false, "a\xffb": false, "a\nb": false, "a\r": false} {
		if p := Name(s); (p == nil) != ok {
			t.Errorf("Name(%q) = %+v", s, p)
		}
	}
	if p := Short("a\xffb"); p != nil {
		t.Errorf("a routing key may be any bytes: %+v", p)
	}
	if p := Name(strings.Repeat("x", 1000)); len(p.Problem) > 200 {
		t.Errorf("the fault echoes all of a long name: %s", p.Problem)
	}
}

func TestErrorClasses(t *testing.T) {
	broker := fmt.Errorf("declare: %w", &amqp.Error{Code: 404, Server: true})
	if Code(broker) != 404 || Code(&amqp.Error{Code: 501}) != 0 || Code(nil) != 0 {
		t.Error("Code tells the broker's code, and only the broker's")
	}
	if !IsClosed(fmt.Errorf("x: %w", amqp.ErrClosed)) || IsClosed(broker) {
		t.Error("IsClosed is of amqp.ErrClosed alone")
	}
	field := fmt.Errorf("setup: %w", &FieldError{Package: "p", Field: "F", Problem: "is bad", Fix: "mend it"})
	if !IsPermanent(field) || IsPermanent(broker) || IsPermanent(errors.New("x")) {
		t.Error("IsPermanent is of errors that say so")
	}
	if want := "setup: p: F: is bad; mend it"; field.Error() != want {
		t.Errorf("got %q, want %q", field, want)
	}
}

func FuzzTableAgreesWithTheLibrary(f *testing.F) {
	f.Add("k", "v", int64(1), 3)
	f.Fuzz(func(t *testing.T, k, s string, n int64, depth int) {
		table := amqp.Table{k: s, k + "n": n, k + "l": []any{s, n, nil}}
		for range depth % 40 {
			table = amqp.Table{k: table}
		}
		if Table(table) == nil {
			if err := table.Validate(); err != nil {
				t.Errorf("amqp091-go refuses what Table takes: %v", err)
			}
		}
	})
}

// amqp091-go sends an int in 32 bits.
func TestAnIntBeyond32BitsIsRefused(t *testing.T) {
	n := math.MaxInt32
	if n++; n < 0 {
		t.Skip("an int has 32 bits here")
	}
	if p := Table(amqp.Table{"n": n}); p == nil || p.Field != `["n"]` || !strings.Contains(p.Fix, "int64") {
		t.Errorf("Table = %+v, want it refused with the type to use", p)
	}
}
