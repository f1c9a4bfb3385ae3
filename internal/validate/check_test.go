package validate

import (
	"errors"
	"fmt"
	"math"
	"reflect"
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
		"too many":     {entries(MaxEntries + 1), ``, "entries"},
		"too large":    {amqp.Table{"x": strings.Repeat("x", MaxHeaders)}, `["x"]`, "larger than"},
		"long key":     {amqp.Table{strings.Repeat("k", 256): 1}, `["kkk`, "longer than 255"},
		"key no UTF-8": {amqp.Table{"\xff": 1}, `["\xff"]`, "UTF-8"},
		"NaN":          {amqp.Table{"n": []any{math.NaN()}}, `["n"][0]`, "not a number"},
		"Inf":          {amqp.Table{"n": float32(math.Inf(1))}, `["n"]`, "not a number"},
		"uint64":       {amqp.Table{"n": uint64(1 << 63)}, `["n"]`, "int64"},
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

func TestArgumentsAreSentWithAllTheirBits(t *testing.T) {
	same := amqp.Table{"n": 7, "t": amqp.Table{"n": -1}}
	if got := Arguments(same); reflect.ValueOf(got).Pointer() != reflect.ValueOf(same).Pointer() {
		t.Errorf("Arguments(%v) = %v, a copy", same, got)
	}
	got := Arguments(amqp.Table{"n": 7, "large": math.MaxInt, "uint": uint(5), "t": amqp.Table{"u": uint64(math.MaxInt64), "i": int16(-1)}})
	large := any(int64(math.MaxInt))
	if math.MaxInt == math.MaxInt32 {
		large = math.MaxInt
	}
	want := amqp.Table{"n": 7, "large": large, "uint": int64(5), "t": amqp.Table{"u": int64(math.MaxInt64), "i": int16(-1)}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Arguments = %v, want %v", got, want)
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

func TestTextOfOthersStaysOnOneLine(t *testing.T) {
	for s, want := range map[string]string{
		"NO_ROUTE": "NO_ROUTE", "low on memory": "low on memory", "vhost 'é'": "vhost 'é'", "": "",
		"a\nb": `a\nb`, "\x1b[31m": `\x1b[31m`, "a\xff": `a\xff`, "a\u2028b": `a\u2028b`, "say \"a\"\n": `say "a"\n`,
	} {
		if got := Printable(s); got != want {
			t.Errorf("Printable(%q) = %s, want %s", s, got, want)
		}
	}
	long := strings.Repeat("x", 63) + "é" + strings.Repeat("x", 100)
	if got := Quote(long); !strings.HasPrefix(got, `"`+long[:63]+`"…`) {
		t.Errorf("Quote cuts a character in two: %s", got)
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

func TestReceivedTakesWhatTheLibraryCanRead(t *testing.T) {
	for name, table := range map[string]amqp.Table{
		"deepest":      nested(33), // 32 tables within the outermost one
		"longest":      entries(8192),
		"two long":     {"a": entries(8192), "b": entries(8192)},
		"not UTF-8":    {"\xff\n": true},
		"old times":    {"t": time.Time{}, "u": time.Unix(-1, 0)},
		"deep array":   {"a": deepArray(31)},
		"empty key":    {"": nil},
		"large":        {"x": strings.Repeat("x", 1<<20-4-1-1-5)},
		"small number": {"b": int8(-1), "s": int16(-1), "u": uint16(1), "f": float32(1)},
	} {
		size, p := Received(table, 1<<20)
		if p != nil {
			t.Errorf("%s: %+v", name, p)
		}
		if size <= 4 || size > 1<<20 {
			t.Errorf("%s: %d bytes", name, size)
		}
		if err := table.Validate(); err != nil {
			t.Errorf("%s: amqp091-go refuses what Received takes: %v", name, err)
		}
	}
}

func deepArray(n int) (a []any) {
	a = []any{true}
	for range n {
		a = []any{a}
	}
	return a
}

func TestReceivedRefusesWhatNobodyCanReceive(t *testing.T) {
	twice := amqp.Table{}
	twice["a"], twice["b"] = twice, []any{twice, twice}
	for name, c := range map[string]struct {
		table amqp.Table
		word  string
	}{
		"cyclic":     {cyclic(), "nested deeper than 32"},
		"branching":  {twice, "nested deeper than 32"},
		"too deep":   {nested(34), "nested deeper than 32"},
		"deep array": {amqp.Table{"a": deepArray(32)}, "nested deeper than 32"},
		"too many":   {entries(8193), "more than 8192 entries"},
		"long array": {amqp.Table{"a": make([]any, 8193)}, "more than 8192 entries"},
		"too large":  {amqp.Table{"x": strings.Repeat("x", 1<<20-4-1-1-4)}, "larger than 1048576 bytes"},
		"long key":   {amqp.Table{strings.Repeat("k", 256): 1}, "longer than 255"},
		"type":       {amqp.Table{"n": []string{"a"}}, "[]string"},
		"NaN":        {amqp.Table{"n": math.NaN()}, "not a number"},
	} {
		if _, p := Received(c.table, 1<<20); p == nil || !strings.Contains(p.Problem, c.word) || p.Fix == "" {
			t.Errorf("%s: %+v, want the words %q", name, p, c.word)
		}
	}
}

// A table whose branches all lead back to it has no leaf at which a check could stop early.
func TestACheckEndsOnSharedTables(t *testing.T) {
	shared := amqp.Table{"x": nil}
	for range 32 {
		shared = amqp.Table{"a": shared, "b": shared}
	}
	if _, p := Received(shared, 1<<20); p == nil || !strings.Contains(p.Problem, "larger than") {
		t.Errorf("a table of 2^32 entries: %+v", p)
	}
}

func TestReceivedExpirationIsWhateverRabbitMQTakes(t *testing.T) {
	for _, s := range []string{"", "0", "-0", "+5", "0005", "315360000000"} {
		if p := ReceivedExpiration(s); p != nil {
			t.Errorf("%q: %+v", s, p)
		}
	}
	for _, s := range []string{"315360000001", "-1", " 5", "5.0", "+", "1_0"} {
		if p := ReceivedExpiration(s); p == nil || p.Fix == "" {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestHeadersAreSentInAFormThatEveryClientReads(t *testing.T) {
	inner, list := amqp.Table{"n": uint8(200)}, []any{int8(-1), 5}
	given := amqp.Table{
		"int": math.MaxInt, "negative": -1, "uint": uint(7), "uint64": uint64(math.MaxInt64), "int8": int8(-8), "uint8": uint8(255), "int16": int16(-16),
		"uint16": uint16(16), "int32": int32(-32), "uint32": uint32(math.MaxUint32), "int64": int64(-64), "table": inner, "list": list,
		"float32": float32(1.5), "bytes": []byte("b"), "nil": nil, "time": time.Unix(0, 0), "last": time.Unix(253_402_300_799, 999),
	}
	before := fmt.Sprintf("%#v", given)
	sent, size, p := Headers(given, MaxHeaders)
	if p != nil {
		t.Fatalf("%+v", p)
	}
	for name, want := range (amqp.Table{
		"int": int64(math.MaxInt), "negative": int64(-1), "uint": int64(7), "uint64": int64(math.MaxInt64), "int8": int32(-8), "uint8": int32(255), "int16": int32(-16),
		"uint16": uint16(16), "int32": int32(-32), "uint32": uint32(math.MaxUint32), "int64": int64(-64),
	}) {
		if sent[name] != want {
			t.Errorf("%s is sent as %T(%v), want %T(%v)", name, sent[name], sent[name], want, want)
		}
	}
	if n, ok := sent["table"].(amqp.Table)["n"].(int32); !ok || n != 200 || fmt.Sprintf("%T %T", sent["list"].([]any)...) != "int32 int64" {
		t.Errorf("nested values: %#v", sent)
	}
	if after := fmt.Sprintf("%#v", given); after != before {
		t.Errorf("the caller's table was changed to %s", after)
	}
	if again, sameSize, p := Headers(sent, MaxHeaders); p != nil || sameSize != size || fmt.Sprintf("%p", again) != fmt.Sprintf("%p", sent) {
		t.Errorf("a table that needs no change: %d bytes instead of %d, %+v, or a copy", sameSize, size, p)
	}
	if err := sent.Validate(); err != nil {
		t.Errorf("amqp091-go cannot write it: %v", err)
	}
}

func TestHeadersThatBreakOtherClientsAreRefused(t *testing.T) {
	for name, v := range map[string]any{
		"zero time": time.Time{}, "before 1970": time.Unix(-1, 0), "year 10000": time.Unix(253_402_300_800, 0), "uint64": uint64(1 << 63),
		"decimal": amqp.Decimal{Scale: 2, Value: 5}, "NaN": math.NaN(), "Inf": float32(math.Inf(-1)),
	} {
		for _, table := range []amqp.Table{{"v": v}, {"t": amqp.Table{"v": v}}, {"l": []any{v}}} {
			if _, _, p := Headers(table, MaxHeaders); p == nil || p.Fix == "" {
				t.Errorf("%s in %v: %+v, want a problem with a fix", name, table, p)
			}
		}
	}
}

func TestReceivedHeadersKeepTheirTypes(t *testing.T) {
	given := amqp.Table{"int8": int8(-8), "uint8": uint8(255), "int16": int16(-16), "time": time.Time{}, "decimal": amqp.Decimal{Scale: 255, Value: -1}}
	sent, _, p := Republished(given, MaxHeaders)
	if p != nil || fmt.Sprintf("%p", sent) != fmt.Sprintf("%p", given) {
		t.Errorf("sent as %#v, %+v", sent, p)
	}
	given["own"] = 1 // what the toolkit or its user adds
	sent, _, p = Republished(given, MaxHeaders)
	if _, isInt64 := sent["own"].(int64); p != nil || !isInt64 || sent["int16"] != int16(-16) || sent["uint8"] != uint8(255) {
		t.Errorf("sent as %#v, %+v", sent, p)
	}
}

func TestCheckingHeadersAllocatesNothing(t *testing.T) {
	table := amqp.Table{"a": int64(1), "b": "s", "c": amqp.Table{"d": true}, "e": []any{1.5}}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = Headers(table, MaxHeaders) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestUnprefixedDropsOnlyPackageNamesAtTheStart(t *testing.T) {
	cause := errors.New("consumer: amqpkit: amqp://host: setup failed: topology: empty")
	err := Unprefixed(cause)
	if want := "amqp://host: setup failed: topology: empty"; err.Error() != want || !errors.Is(err, cause) || Unprefixed(nil) != nil {
		t.Errorf("got %q, want %q with its cause", err, want)
	}
}
