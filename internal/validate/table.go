package validate

import (
	"fmt"
	"math"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Limits of a table that the caller passes.
const (
	MaxDepth   = 16   // tables and arrays within the outermost table
	MaxEntries = 1024 // entries, nested entries included
)

// Table checks a table of arguments: its types must be types of AMQP 0-9-1, and names, depth, number of entries and encoded
// size must be within the limits.
func Table(t amqp.Table) *Problem { return TableWithin(t, MaxHeaders) }

// TableWithin is Table with another limit on the encoded size.
func TableWithin(t amqp.Table, bytes int) *Problem {
	_, p := argumentsOf(t, bytes)
	return p
}

// Arguments returns a table of arguments to send: t, or a copy if t contains integers that amqp091-go would truncate or
// cannot write. A table that Table refuses is returned unchanged.
func Arguments(t amqp.Table) amqp.Table {
	sent, _ := argumentsOf(t, MaxHeaders)
	return sent
}

func argumentsOf(t amqp.Table, bytes int) (sent amqp.Table, p *Problem) {
	w := newWalk(limits{values: arguments, depth: MaxDepth, total: MaxEntries, each: MaxEntries, bytes: bytes, key: Name})
	sent, _, p = w.checked(t)
	return sent, p
}

// Headers checks the headers of a message like Table, and also refuses values that other clients cannot read. It returns the
// headers to send and their encoded size: t, or a copy if some values have to be sent as another type.
func Headers(t amqp.Table, bytes int) (sent amqp.Table, size int, p *Problem) {
	w := newWalk(limits{values: headers, depth: MaxDepth, total: MaxEntries, each: MaxEntries, bytes: bytes, key: Name})
	return w.checked(t)
}

// Received checks the headers of a received message that is published again, and returns the encoded size. It accepts every
// table that amqp091-go can read (see the limits in its read.go), up to a limit on the encoded size.
func Received(t amqp.Table, bytes int) (size int, p *Problem) {
	_, size, p = Republished(t, bytes)
	return size, p
}

// Republished is Received and also returns the table to send: t, or a copy if values that amqp091-go cannot write were added
// to it.
func Republished(t amqp.Table, bytes int) (sent amqp.Table, size int, p *Problem) {
	w := newWalk(limits{values: received, depth: 32, total: math.MaxInt, each: 8192, bytes: bytes, key: Short})
	return w.checked(t)
}

// limits of a table.
type limits struct {
	values int
	depth  int // tables and arrays within the outermost table
	total  int // entries, nested entries included
	each   int // entries of a single table or array
	bytes  int // of the encoded table
	key    func(string) *Problem
}

// The origin of a table determines which values are accepted.
const (
	arguments = iota // of a declaration, read by RabbitMQ
	headers          // of a new message, read by any client
	received         // of a message from another client
)

// A walk visits at most limits.bytes values, so it ends even if a table contains itself several times.
type walk struct {
	limits
	left    int  // bytes
	entries int  // left
	convert bool // sendable has to change values
}

func newWalk(l limits) walk { return walk{limits: l, left: l.bytes, entries: l.total} }

func (w *walk) checked(t amqp.Table) (sent amqp.Table, size int, p *Problem) {
	p = w.table(t, 0)
	if p == nil && w.convert {
		t = w.sendable(t).(amqp.Table)
	}
	return t, w.bytes - w.left, p
}

func (w *walk) table(t amqp.Table, depth int) *Problem {
	if p := w.enter(len(t), depth); p != nil {
		return p
	}
	for k, v := range t {
		p := w.key(k)
		if p != nil {
			p.Problem = "key " + p.Problem
		} else {
			w.left -= 1 + len(k)
			p = w.value(v, depth)
		}
		if p != nil {
			return p.in("[" + Quote(k) + "]")
		}
	}
	return nil
}

// enter counts the length of a table or array.
func (w *walk) enter(entries, depth int) *Problem {
	if depth > w.depth {
		return &Problem{"", fmt.Sprintf("tables are nested deeper than %d", w.depth), "flatten them, or put the data into the body"}
	}
	if entries > w.each {
		return tooMany(w.each)
	}
	w.left -= 4
	return nil
}

func tooMany(entries int) *Problem {
	return &Problem{"", fmt.Sprintf("more than %d entries", entries), "put the data into the body"}
}

// in prepends a place to the problem's field.
func (p *Problem) in(place string) *Problem {
	p.Field = place + p.Field
	return p
}

// value checks an entry and counts its encoded size: the type, then the value.
func (w *walk) value(v any, depth int) *Problem {
	if w.entries--; w.entries < 0 {
		return tooMany(w.total)
	}
	w.left--
	switch v := v.(type) {
	case nil:
	case bool:
		w.left--
	case int8, uint8:
		w.small(1)
	case int16:
		w.small(2)
	case uint16:
		w.left -= 2
	case int32, uint32:
		w.left -= 4
	case int64:
		w.left -= 8
	case time.Time:
		w.left -= 8
		if p := Time(v); p != nil && w.values == headers {
			return p
		}
	case amqp.Decimal:
		w.left -= 5
		if w.values == headers { // in a stream; RabbitMQ closes the connection (541)
			return &Problem{"", "RabbitMQ cannot store an amqp.Decimal in a stream", "convert it to a string"}
		}
	case float32:
		w.left -= 4
		if p := number(float64(v)); p != nil {
			return p
		}
	case float64:
		w.left -= 8
		if p := number(v); p != nil {
			return p
		}
	case int:
		w.left -= 8
		w.convert = w.convert || !w.keeps(v)
	case uint:
		return w.unsigned(uint64(v))
	case uint64:
		return w.unsigned(v)
	case string:
		w.left -= 4 + len(v)
	case []byte:
		w.left -= 4 + len(v)
	case amqp.Table:
		if p := w.table(v, depth+1); p != nil {
			return p
		}
	case []any:
		if p := w.enter(len(v), depth+1); p != nil {
			return p
		}
		for i, e := range v {
			if p := w.value(e, depth+1); p != nil {
				return p.in("[" + strconv.Itoa(i) + "]")
			}
		}
	default:
		return &Problem{"", fmt.Sprintf("AMQP 0-9-1 cannot carry a %T", v), typeFix(v)}
	}
	if w.left < 0 {
		return &Problem{"", fmt.Sprintf("the table is larger than %d bytes", w.bytes), "put the data into the body"}
	}
	return nil
}

// small counts an integer of a type that other clients misread: pika 1.2 and py-amqp 5.1 read 'b' as unsigned and 'B' as
// signed, and py-amqp reads 's' as a short string and loses its connection. In headers it is sent as int32.
func (w *walk) small(size int) {
	if w.values == headers {
		size = 4
		w.convert = true
	}
	w.left -= size
}

// unsigned counts an integer of a type that amqp091-go cannot write. It is sent as int64.
func (w *walk) unsigned(n uint64) *Problem {
	if n > math.MaxInt64 {
		return &Problem{
			"", fmt.Sprintf("AMQP 0-9-1 cannot carry the unsigned number %d", n),
			fmt.Sprintf("convert it to int64 (at most %d) or a string", int64(math.MaxInt64)),
		}
	}
	w.left -= 8
	w.convert = true
	return nil
}

// keeps reports whether an int may be sent with 32 bits, as amqp091-go does: in arguments, if it fits.
func (w *walk) keeps(n int) bool { return w.values == arguments && int64(n) == int64(int32(n)) } //nolint:gosec // that is the question

// sendable returns v in a form that amqp091-go can write and other clients can read. It copies tables and arrays, because
// they belong to the caller.
func (w *walk) sendable(v any) any {
	switch v := v.(type) {
	case int:
		if !w.keeps(v) {
			return int64(v)
		}
	case uint:
		return int64(v) //nolint:gosec // unsigned has checked it
	case uint64:
		return int64(v) //nolint:gosec // unsigned has checked it
	case int8:
		if w.values == headers {
			return int32(v)
		}
	case uint8:
		if w.values == headers {
			return int32(v)
		}
	case int16:
		if w.values == headers {
			return int32(v)
		}
	case amqp.Table:
		t := make(amqp.Table, len(v))
		for k, e := range v {
			t[k] = w.sendable(e)
		}
		return t
	case []any:
		a := make([]any, len(v))
		for i, e := range v {
			a[i] = w.sendable(e)
		}
		return a
	}
	return v
}

// number refuses a float that RabbitMQ cannot decode, for which it would close the connection (541).
func number(f float64) *Problem {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return &Problem{"", fmt.Sprintf("%v is not a number", f), "leave it out, or send it as a string"}
	}
	return nil
}

func typeFix(v any) string {
	switch v.(type) {
	case map[string]any:
		return "use amqp.Table"
	case []string:
		return "use []any"
	case time.Duration:
		return "convert it to int64 milliseconds"
	}
	return "convert it to a string, int64, bool, float64, time.Time, []byte, amqp.Table or []any"
}
