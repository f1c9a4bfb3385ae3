package codec

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// everything has a value of each type.
var everything = Table{
	{"t", true},
	{"b", int8(-1)},
	{"B", uint8(255)},
	{"s", int16(-2)},
	{"u", uint16(65535)},
	{"I", int32(math.MinInt32)},
	{"i", uint32(math.MaxUint32)},
	{"l", int64(math.MinInt64)},
	{"f", float32(1.5)},
	{"d", 2.5},
	{"D", Decimal{2, 314}},
	{"S", "text"},
	{"x", []byte{0, 1}},
	{"T", time.Unix(1_700_000_000, 0).UTC()},
	{"F", Table{{"nested", int64(1)}}},
	{"A", []any{"a", nil, []any{}}},
	{"V", nil},
}

func TestTablesRoundTrip(t *testing.T) {
	b := AppendTable(nil, everything)
	got, err := ParseTable(b[4:])
	if err != nil || !reflect.DeepEqual(got, everything) {
		t.Errorf("%v\n%v\nwant\n%v", err, got, everything)
	}
	for _, f := range everything {
		one := AppendTable(nil, Table{f})[4:]
		if len(f.Key) != 1 || one[2] != f.Key[0] {
			t.Errorf("%q begins with type %c", f.Key, one[2])
		}
		for n := 1; n < len(one); n++ {
			if _, err := ParseTable(one[:n]); err == nil {
				t.Errorf("%q cut to %d bytes is read", f.Key, n)
			}
		}
	}
	if got, err := ParseTable([]byte("\x01kL\x00\x00\x00\x00\x00\x00\x00\x07")); err != nil || got[0].Value != int64(7) {
		t.Errorf("%v %v: L is a signed number, too", got, err)
	}
	if _, err := ParseTable([]byte("\x01kZ")); err == nil {
		t.Error("an unknown type is read")
	}
}

func TestTableNestingIsLimited(t *testing.T) {
	nest := func(n int) []byte {
		v := Table{}
		for range n {
			v = Table{{"t", v}}
		}
		return AppendTable(nil, v)[4:]
	}
	if _, err := ParseTable(nest(maxDepth)); err != nil {
		t.Error(err)
	}
	if _, err := ParseTable(nest(maxDepth + 1)); err == nil {
		t.Error("a table is nested too deep, and read")
	}
}

func TestTableMethodsCopy(t *testing.T) {
	a := Table{{"a", 1}, {"b", 2}}
	b := a.With("b", 3).With("c", 4).Without("a")
	if v, _ := a.Get("b"); v != 2 || len(a) != 2 {
		t.Errorf("the original is %v", a)
	}
	if v, _ := b.Get("b"); v != 3 || len(b) != 2 {
		t.Errorf("the copy is %v", b)
	}
}

func TestSortedKeepsTheFirstOfDuplicates(t *testing.T) {
	inner := Table{{"z", 1}, {"a", 2}, {"z", 3}}
	in := Table{{"b", 1}, {"a", inner}, {"B", 2}, {"b", 3}, {"", 4}}
	want := Table{{"", 4}, {"B", 2}, {"a", inner}, {"b", 1}}
	if got := in.Sorted(); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if in[0].Key != "b" || len(in) != 5 {
		t.Errorf("the original is %v", in)
	}
	if v, ok := in.Last("b"); v != 3 || !ok {
		t.Errorf("the last is %v", v)
	}
	if got := in.Without("b"); len(got) != 4 || got[2].Value != 3 {
		t.Errorf("without the first it is %v", got)
	}
}

// The first invalid argument counts, unless the fields cannot be separated.
func TestInvalidArgumentsAreReported(t *testing.T) {
	declare := func(rest string) []byte { return append([]byte{0, 50, 0, 10, 0, 0}, rest...) }
	for rest, want := range map[string]error{
		"\x01q\x00\x00\x00\x00\x00":                   nil,
		"\x01\xff\x00\x00\x00\x00\x00":                ErrUTF8,
		"\x01q\x00\x00\x00\x00\x03\x01kZ":             ErrTable,
		"\x01\xff\x00\x00\x00\x00\x03\x01kZ":          ErrUTF8,
		"\x01\xff\x00\x00\x00\x00\x00\x00":            errSyntax,
		"\x01q\x00\x00\x00\x00\x04\x01kZ":             errSyntax,
		"\x01q\x00\x00\x00\x00\x02\x01kZ":             errSyntax,
		"\x01q\x00\x00\x00\x00\x06\x01kf\x7f\x80\x00": ErrTable,
	} {
		if _, m, err := Parse(declare(rest)); !errors.Is(err, want) || m == nil {
			t.Errorf("%q: %v, want %v", rest, err, want)
		}
	}
}

// Every method encodes to the bytes it was decoded from.
func TestMethodsRoundTrip(t *testing.T) {
	n := 0
	for class := range ID(100) {
		for number := range ID(130) {
			id := class<<16 | number
			m := newMethod(id)
			if m == nil {
				continue
			}
			n++
			if m.ID() != id {
				t.Errorf("%T has the id %x, want %x", m, m.ID(), id)
			}
			fill(reflect.ValueOf(m).Elem())
			frame := AppendMethod(nil, 7, m)
			f, err := NewReader(bytes.NewReader(frame), 10_000).Next()
			if err != nil || f.Type != FrameMethod || f.Channel != 7 {
				t.Fatalf("%T: %+v %v", m, f, err)
			}
			_, got, err := Parse(f.Payload)
			if err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("%T: %+v, %v, want %+v", m, got, err, m)
			}
			if _, _, err := Parse(append(f.Payload[:len(f.Payload):len(f.Payload)], 0)); err == nil {
				t.Errorf("%T: a byte too much is read", m)
			}
			if len(f.Payload) > 4 {
				if _, _, err := Parse(f.Payload[:len(f.Payload)-1]); err == nil {
					t.Errorf("%T: a byte too few is read", m)
				}
			}
		}
	}
	if n != 66 {
		t.Errorf("%d methods, want 66", n)
	}
}

// fill sets every second bit and makes the other fields nonzero.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Bool:
			f.SetBool(i%2 == 0)
		case reflect.String:
			f.SetString("text")
		case reflect.Slice:
			if f.Type() == reflect.TypeFor[Table]() {
				f.Set(reflect.ValueOf(everything))
			} else {
				f.SetBytes([]byte("long"))
			}
		default:
			f.SetUint(uint64(i + 1))
		}
	}
}

func TestPropertiesRoundTrip(t *testing.T) {
	want := Properties{
		Has: 0xFFFC, ContentType: "a", ContentEncoding: "b", Headers: everything, DeliveryMode: 2, Priority: 3, CorrelationID: "c",
		ReplyTo: "d", Expiration: "e", MessageID: "f", Timestamp: 7, Type: "g", UserID: "h", AppID: "i", ClusterIDReserved: "j",
	}
	got, err := ParseProperties(want.Append(nil))
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if b := (&Properties{ContentType: "not there"}).Append(nil); !bytes.Equal(b, []byte{0, 0}) {
		t.Errorf("no property is %v", b)
	}
	if p, err := ParseProperties([]byte{0, 3}); err != nil || p.Has != 0 {
		t.Errorf("%+v %v: the last two flags mean nothing", p, err)
	}
}

func TestContentIsSplitIntoFrames(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 100)
	b := AppendContent(nil, 3, []byte{0, 0}, body, 48)
	r := NewReader(bytes.NewReader(b), 40)
	f, err := r.Next()
	if err != nil || f.Malformed() || f.Type != FrameHeader {
		t.Fatalf("%+v %v", f, err)
	}
	if h := ParseHeader(f.Payload); h.Class != ClassBasic || h.Weight != 0 || h.Size != 100 || !bytes.Equal(h.Properties, []byte{0, 0}) {
		t.Errorf("%+v", h)
	}
	for _, want := range []int{40, 40, 20} {
		if f, err := r.Next(); err != nil || f.Type != FrameBody || f.Channel != 3 || len(f.Payload) != want {
			t.Errorf("%d bytes, %v, want %d", len(f.Payload), err, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// RabbitMQ accepts frames beyond the limit by the size of an empty frame.
func TestFrameSizeIsLimited(t *testing.T) {
	for size, fits := range map[int]bool{100: true, 108: true, 109: false} {
		_, err := NewReader(bytes.NewReader(AppendFrame(nil, FrameBody, 1, make([]byte, size))), 100).Next()
		var e *FrameError
		if errors.As(err, &e) == fits || !fits && e.Reason != "{frame_too_large,109,100}" {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestErlangFormatting(t *testing.T) {
	for want, b := range map[string]string{
		`<<>>`: "", `<<"some">>`: "some", `<<"a\"b">>`: `a"b`, `<<0,255>>`: "\x00\xff", `<<"ä"/utf8>>`: "ä", `<<"→"/utf8>>`: "→",
		`<<"é">>`: "\xe9", `<<"\n\e\\">>`: "\n\x1b\\", `<<127>>`: "\x7f",
	} {
		if got := Erlang([]byte(b)); got != want {
			t.Errorf("%q is %s, want %s", b, got, want)
		}
	}
}

func TestErlangLineBreaks(t *testing.T) {
	for behind, want := range map[int]string{54: "{end,120}", 70: "{end,120}", 71: "{end,\n" + strings.Repeat(" ", 72) + "120}"} {
		if got := erlangPair(behind, "end", 120); got != want {
			t.Errorf("behind %d characters: %q, want %q", behind, got, want)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(AppendMethod(nil, 1, &QueueDeclare{Queue: "q", Arguments: everything}))
	f.Add(AppendContent(AppendMethod(nil, 1, &BasicPublish{Key: "q"}), 1, (&Properties{Has: HasHeaders, Headers: everything}).Append(nil), []byte("b"), 100))
	f.Add([]byte{1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data), 4096)
		for {
			fr, err := r.Next()
			if err != nil {
				break
			}
			if _, m, err := Parse(fr.Payload); err == nil && m != nil && fr.Type == FrameMethod {
				again := AppendMethod(nil, fr.Channel, m)
				if _, m2, err := Parse(again[frameHeader : len(again)-1]); err != nil || !bytes.Equal(AppendMethod(nil, fr.Channel, m2), again) {
					t.Fatalf("%+v is written as %+v, %v", m, m2, err)
				}
			}
			if fr.Type == FrameHeader && !fr.Malformed() {
				_, _ = ParseProperties(ParseHeader(fr.Payload).Properties)
			}
		}
		if cap(r.buf) > 2*4096 {
			t.Fatalf("%d bytes are kept", cap(r.buf))
		}
	})
}

// The lengths claimed by a table do not cause allocations out of proportion to its bytes.
func TestDecodingAllocatesInProportion(t *testing.T) {
	void := append([]byte("\x01kA\x00\x01\x00\x00"), bytes.Repeat([]byte("V"), 1<<16)...)
	claims := []byte("\x01kS\xff\xff\xff\xff")
	for name, b := range map[string][]byte{"voids": void, "claims": claims} {
		got := uint64(math.MaxUint64)
		for range 5 { // the runtime may allocate too
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = ParseTable(b)
			runtime.ReadMemStats(&after)
			got = min(got, after.TotalAlloc-before.TotalAlloc)
		}
		if most := uint64(100*len(b) + 4096); got > most {
			t.Errorf("%s: %d bytes are read with %d allocated, want %d at most", name, len(b), got, most)
		}
	}
}
