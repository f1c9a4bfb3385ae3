package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// content is a content header frame of a message with an id, headers in between and an app id.
func content(channel uint16, headers []byte) []byte {
	p := binary.BigEndian.AppendUint64([]byte{0, 60, 0, 0}, 0)
	p = append(p, 0b1010_0000, 0b1000_1000) // content type, headers, message id, app id
	p = appendShort(p, "text/plain")
	p = appendLong(p, headers)
	p = appendShort(p, "m-1")
	f := frame(contentFrame, appendShort(p, "app")...)
	binary.BigEndian.PutUint16(f[1:], channel)
	return f
}

// table encodes one entry, behind others.
func table(name string, kind byte, value []byte, others ...byte) []byte {
	return append(append(appendShort(others, name), kind), value...)
}

func tables(n int) (headers []byte) {
	for range n {
		headers = table("t", 'F', appendLong(nil, headers))
	}
	return headers
}

func arrays(n int) []byte {
	var inner []byte
	for range n {
		inner = append([]byte{'A'}, appendLong(nil, inner)...)
	}
	return append(appendShort(nil, "a"), inner...)
}

// manyEntries encodes n entries without values, under as many names at most.
func manyEntries(n, names int) (headers []byte) {
	for i := range n {
		headers = table(fmt.Sprint(i%names), 'V', nil, headers...)
	}
	return headers
}

var contents = map[string]struct {
	headers []byte
	reason  string // empty: it can be read
}{
	"none":                          {nil, ""},
	"every type":                    {everyType(), ""},
	"nested as deep as allowed":     {tables(32), ""},
	"nested too deep":               {tables(33), "deeper than 32"},
	"arrays as deep as allowed":     {arrays(32), ""},
	"arrays too deep":               {arrays(33), "deeper than 32"},
	"as many as allowed":            {manyEntries(8192, 8192), ""},
	"too many":                      {manyEntries(8193, 8193), "more than 8192"},
	"too many of the same names":    {manyEntries(10_000, 8191), ""},
	"too many in an array":          {table("a", 'A', appendLong(nil, bytes.Repeat([]byte{'V'}, 8193))), "more than 8192"},
	"as many as an array may":       {table("a", 'A', appendLong(nil, bytes.Repeat([]byte{'V'}, 8192))), ""},
	"an unknown type":               {table("a", 'L', make([]byte, 8)), "unknown type 'L'"},
	"a cut value":                   {table("a", 'I', []byte{0}), "is cut"},
	"no value":                      {table("a", 'I', nil), "ends too early"},
	"an array that ends in a field": {table("a", 'A', appendLong(nil, []byte{'I'})), ""},
	"a string beyond the table":     {table("a", 'S', []byte{0, 0, 1, 0, 'x'}), "is cut"},
	"a length beyond int32":         {table("a", 'x', []byte{0xff, 0, 0, 0}), "impossible length"},
}

func everyType() (headers []byte) {
	for kind, n := range map[byte]int{'V': 0, 't': 1, 'B': 1, 'b': 1, 's': 2, 'u': 2, 'I': 4, 'i': 4, 'f': 4, 'l': 8, 'd': 8, 'T': 8, 'D': 5} {
		headers = table(string(kind), kind, make([]byte, n), headers...)
	}
	for _, kind := range []byte{'S', 'x', 'A', 'F'} {
		headers = table(string(kind), kind, make([]byte, 4), headers...)
	}
	return headers
}

// A script is a connection on which a broker sends these bytes when the client has tuned the connection.
type script struct {
	io.Reader
	tuned chan struct{}
}

func (s *script) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b[frameHeader:], []byte{0, 10, 0, 40}) { // connection.open
		close(s.tuned)
	}
	return len(b), nil
}

func (*script) Close() error { return nil }

type waiting struct{ until chan struct{} }

func (w waiting) Read([]byte) (int, error) {
	<-w.until
	return 0, io.EOF
}

// refused reports whether amqp091-go itself refuses to read a frame. If it does not, it reads the broker's close behind it.
func refused(t *testing.T, f []byte) bool {
	t.Helper()
	method := func(id byte, args ...[]byte) io.Reader {
		f := frame(methodFrame, append([]byte{0, 10, 0, id}, slices.Concat(args...)...)...)
		f[2] = 0
		return bytes.NewReader(f)
	}
	s := &script{tuned: make(chan struct{})}
	s.Reader = io.MultiReader(
		method(10, []byte{0, 9}, appendLong(nil, nil), appendLong(nil, []byte("PLAIN")), appendLong(nil, []byte("en_US"))),
		method(30, make([]byte, 8)),
		waiting{s.tuned},
		bytes.NewReader(f),
		method(50, make([]byte, 7)),
	)
	_, err := amqp.Open(s, amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{}}})
	e, ok := errors.AsType[*amqp.Error](err)
	if !ok {
		t.Fatalf("amqp.Open = %v", err)
	}
	return !e.Server
}

// through returns a frame as a Transport passes it on.
func through(t *testing.T, frame []byte) []byte {
	t.Helper()
	got, err := io.ReadAll(NewTransport(&peer{stream: frame, piece: len(frame)}))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAnUnreadableContentHeaderIsReplacedAndNoOther(t *testing.T) {
	for name, c := range contents {
		t.Run(name, func(t *testing.T) {
			f := content(1, c.headers)
			if got := refused(t, f); got != (c.reason != "") {
				t.Fatalf("amqp091-go refuses it: %v", got)
			}
			got := through(t, f)
			if c.reason == "" {
				if !bytes.Equal(got, f) {
					t.Errorf("%d bytes became %d", len(f), len(got))
				}
				return
			}
			if refused(t, got) {
				t.Fatalf("amqp091-go refuses its replacement: %q", got)
			}
			for _, kept := range []string{"text/plain", "m-1", "app"} {
				if !bytes.Contains(got, appendShort(nil, kept)) {
					t.Errorf("%q is missing in %q", kept, got)
				}
			}
			if !bytes.Contains(got, []byte(c.reason)) {
				t.Errorf("%q does not give the reason %q", got, c.reason)
			}
		})
	}
}

func TestAReplacedContentHeaderKeepsWhatRabbitMQCounts(t *testing.T) {
	offset := []byte{0, 0, 0, 0, 0, 0, 1, 2}
	headers := table("x-stream-offset", 'l', offset, tables(40)...)
	headers = table("x-delivery-count", 'l', offset, headers...)
	got := through(t, content(1, headers))
	for _, name := range []string{"x-stream-offset", "x-delivery-count"} {
		if !bytes.Contains(got, table(name, 'l', offset)) {
			t.Errorf("%s is missing in %q", name, got)
		}
	}
}

func TestAContentHeaderLargerThanAFrameIsReplaced(t *testing.T) {
	for _, c := range []struct{ frameMax, headers int }{{4096, 5000}, {readSize, readSize}, {readSize, 1 << 20}} {
		f := content(1, table("x", 'S', appendLong(nil, make([]byte, c.headers))))
		p := &peer{stream: append(slices.Clip(f), confirm(80, 0)...), piece: 1000}
		tr := NewTransport(p)
		tr.SetFrameMax(c.frameMax)
		got, err := io.ReadAll(tr)
		if err != nil || len(got) > 4096 || !bytes.Contains(got, []byte("larger than a frame")) || !bytes.HasSuffix(got, confirm(80, 0)) {
			t.Errorf("headers of %d bytes: %d bytes passed, %v", c.headers, len(got), err)
		}
	}
}

func TestTheMarkOfAnUnreadableMessageCannotBeForged(t *testing.T) {
	if reason, ok := Unreadable(amqp.Table{unreadableHeader: unreadableSecret + "why"}); !ok || reason != "why" {
		t.Errorf("Unreadable = %q, %v of the mark", reason, ok)
	}
	for _, forged := range []amqp.Table{nil, {}, {unreadableHeader: "why"}, {unreadableHeader: []byte(unreadableSecret)}, {"x": unreadableSecret}} {
		if _, ok := Unreadable(forged); ok {
			t.Errorf("%v is taken for an unreadable message", forged)
		}
	}
}

// amqp091-go's own reader is the judge of which content headers must be replaced.
func FuzzContentHeadersAreRefusedAsByAmqp091(f *testing.F) {
	for _, c := range contents {
		f.Add(content(1, c.headers)[frameHeader:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) < contentFixed || len(payload) > 100_000 {
			return
		}
		frame := frame(contentFrame, payload...)
		got := through(t, frame)
		want := refused(t, frame)
		if want == bytes.Equal(got, frame) {
			t.Errorf("amqp091-go refuses %.100q: %v; it became %.100q", frame, want, got)
		}
		if want && refused(t, got) {
			t.Errorf("amqp091-go refuses %q, which replaced %.100q", got, frame)
		}
	})
}

func TestDeliveryCountIsNeverNegative(t *testing.T) {
	for _, c := range []struct {
		header any
		n      int
		ok     bool
	}{{nil, 0, false}, {"3", 0, false}, {int64(3), 3, true}, {int64(-3), 0, true}} {
		if n, ok := DeliveryCount(amqp.Table{"x-delivery-count": c.header}); n != c.n || ok != c.ok {
			t.Errorf("DeliveryCount of %#v = %d, %v, want %d, %v", c.header, n, ok, c.n, c.ok)
		}
	}
}
