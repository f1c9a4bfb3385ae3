package consumer

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/rand"
	"io"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func encode(tb testing.TB, encoding string, body []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&buf)
	if encoding == "deflate" {
		w = zlib.NewWriter(&buf)
	}
	if _, err := w.Write(body); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// stored returns n random bytes in the gzip format, without compression.
func stored(t *testing.T, n int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func TestDecompressPassesTheDecodedBodyAndKeepsTheOriginal(t *testing.T) {
	large := random(1 << 20)
	for name, c := range map[string]struct {
		encoding string
		body     []byte
		want     []byte
	}{
		"none":                     {"", []byte("plain"), []byte("plain")},
		"identity":                 {"identity", []byte("plain"), []byte("plain")},
		"gzip":                     {"gzip", encode(t, "gzip", []byte("order 7")), []byte("order 7")},
		"GZIP":                     {"GZIP", encode(t, "gzip", []byte("order 7")), []byte("order 7")},
		"deflate":                  {"deflate", encode(t, "deflate", []byte("order 7")), []byte("order 7")},
		"empty body":               {"gzip", encode(t, "gzip", nil), nil},
		"at the limit":             {"gzip", encode(t, "gzip", large), large},
		"small, highly compressed": {"gzip", encode(t, "gzip", make([]byte, ratioFloor)), make([]byte, ratioFloor)},
	} {
		d := &Delivery{Delivery: amqp.Delivery{ContentEncoding: c.encoding, Body: c.body, MessageId: "m"}, Queue: "q"}
		original := bytes.Clone(c.body)
		err := Decompress(len(large))(func(_ context.Context, got *Delivery) error {
			if !bytes.Equal(got.Body, c.want) || got.MessageId != "m" || got.Queue != "q" {
				t.Errorf("%s: the handler got %d bytes, want %d", name, len(got.Body), len(c.want))
			}
			if got != d && got.ContentEncoding != "" {
				t.Errorf("%s: the decoded delivery has content-encoding %q", name, got.ContentEncoding)
			}
			clear(got.Body) // a handler may change the body
			got.Body = nil
			return nil
		})(t.Context(), d)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.encoding != "" && c.encoding != "identity" && (!bytes.Equal(d.Body, original) || d.ContentEncoding != c.encoding) {
			t.Errorf("%s: the outer delivery was changed", name)
		}
	}
}

func TestDecompressRejectsCorruptAndOversizedBodies(t *testing.T) {
	whole := encode(t, "gzip", []byte("order 7"))
	bomb := encode(t, "gzip", make([]byte, 8<<20))
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-5] ^= 1 // in the checksum
	for name, c := range map[string]struct {
		encoding string
		body     []byte
		limit    int
		word     string
	}{
		"unknown encoding":                  {"br", whole, 0, `"br"`},
		"unknown in a list":                 {"gzip, br", whole, 0, `"br"`},
		"unknown by a colon":                {"gzip:lzma", whole, 0, `"lzma"`},
		"a transfer encoding":               {"base64", []byte("b3JkZXI="), 0, `"base64"`},
		"once, not twice":                   {"gzip, deflate", whole, 0, "deflate"},
		"too many":                          {"gzip, gzip, gzip, gzip, gzip", whole, 0, "more than 4"},
		"zip of two files":                  {"zip", zipped(t, "a", "b"), 0, "2 files"},
		"not zip":                           {"zip", whole, 0, "zip"},
		"not bzip2":                         {"bzip2", whole, 0, "bzip2"},
		"raw, trailing data":                {"deflate", append(raw(t, []byte("order 7")), 0), 0, "1 bytes follow"},
		"a bomb, zip":                       {"zip", zipped(t, string(make([]byte, 8<<20))), 0, "100 times"},
		"a bomb in a bomb":                  {"gzip, gzip", encode(t, "gzip", bomb), 0, "100 times"},
		"over the limit in the first stage": {"gzip:gzip", encode(t, "gzip", encode(t, "gzip", random(3000))), 1000, "than 2039 bytes"},
		"not gzip":                          {"gzip", []byte("order 7"), 0, "gzip"},
		"not zlib":                          {"deflate", whole, 0, "zlib"},
		"empty":                             {"gzip", nil, 0, "EOF"},
		"truncated":                         {"gzip", whole[:len(whole)-1], 0, "EOF"},
		"wrong checksum":                    {"gzip", flipped, 0, "checksum"},
		"trailing data":                     {"gzip", append(bytes.Clone(whole), "tail"...), 0, "gzip"},
		"over the limit":                    {"gzip", encode(t, "gzip", random(1001)), 1000, "1000 bytes"},
		"over the default":                  {"gzip", stored(t, 16<<20+1), 0, "16777216 bytes"},
		"a bomb":                            {"gzip", bomb, 0, "100 times"},
		"a bomb, zlib":                      {"deflate", encode(t, "deflate", make([]byte, 8<<20)), 0, "100 times"},
		"a bomb over the size":              {"gzip", bomb, 1000, "1000 bytes"},
		"a bomb in two parts":               {"gzip", append(bytes.Clone(whole), bomb...), 0, "100 times"},
	} {
		called := false
		h := Decompress(c.limit)(func(context.Context, *Delivery) error { called = true; return nil })
		err := h(t.Context(), &Delivery{Delivery: amqp.Delivery{ContentEncoding: c.encoding, Body: c.body}})
		if how, _ := classify(err); how != reject || called || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v (handler called %v), want a Reject with the word %s", name, err, called, c.word)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	for _, encoding := range []string{"gzip", "deflate", "identity", "br", "gzip, deflate", "gzip:utf-8", "zip", "bzip2", ";:,"} {
		f.Add(encoding, encode(f, encoding, []byte("order 7")), 100)
		f.Add(encoding, encode(f, encoding, make([]byte, 100_000)), 1<<20)
	}
	f.Fuzz(func(t *testing.T, encoding string, body []byte, limit int) {
		limit %= 1 << 20
		original := bytes.Clone(body)
		d := &Delivery{Delivery: amqp.Delivery{ContentEncoding: encoding, Body: body}}
		err := Decompress(limit)(func(_ context.Context, got *Delivery) error {
			if got != d && (limit > 0 && len(got.Body) > limit || len(got.Body) > max(ratioFloor, maxRatio*len(body))) {
				t.Errorf("%d bytes became %d with limit %d", len(body), len(got.Body), limit)
			}
			return nil
		})(t.Context(), d)
		if how, _ := classify(err); err != nil && how != reject {
			t.Errorf("failed with %v, want a Reject", err)
		}
		if !bytes.Equal(d.Body, original) || d.ContentEncoding != encoding {
			t.Error("the outer delivery was changed")
		}
		for _, encoding := range []string{"gzip", "deflate"} { // every encoded body can be decoded
			formats, _, _ := parseEncoding(encoding)
			got, err := decode(formats, encode(t, encoding, body), max(1, len(body)))
			if len(body) <= ratioFloor && (err != nil || !bytes.Equal(got, body)) {
				t.Errorf("%s: %d bytes became %d (%v)", encoding, len(body), len(got), err)
			}
		}
	})
}
