package consumer

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// raw returns a body in RFC 1951's format.
func raw(t *testing.T, body []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// zipped is an archive of files with the given contents.
func zipped(t *testing.T, contents ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i, content := range contents {
		f, err := w.Create(fmt.Sprint("amqp", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Bodies as kombu 5.2.4 from Debian compresses "order 7": kombu.compression.compress(b"order 7", ...).
const (
	kombuZlib  = "789ccb2f4a492d523007000b110274" // for "gzip" and "zlib", in the header "application/x-gzip"
	kombuBzip2 = "425a68393141592653598637a37c00000219804000008006009000200021800c032525dc5dc914e1424218de8df0"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecompressDecodesBodiesOfOtherClients(t *testing.T) {
	plain := []byte("order 7")
	gzip, zlib := encode(t, "gzip", plain), encode(t, "deflate", plain)
	kombu := func(compression any) amqp.Table { return amqp.Table{"compression": compression, "task": "pay"} }
	task := amqp.Table{"task": "pay"}
	for name, c := range map[string]struct {
		encoding string
		headers  amqp.Table
		body     []byte
		charset  string
		within   amqp.Table // headers
	}{
		"kombu, json":              {"utf-8", nil, plain, "utf-8", nil},
		"kombu, pickle":            {"binary", nil, plain, "binary", nil},
		"kombu, gzip":              {"utf-8", kombu("application/x-gzip"), unhex(t, kombuZlib), "utf-8", task},
		"kombu, gzip in bytes":     {"utf-8", kombu([]byte("application/x-gzip")), unhex(t, kombuZlib), "utf-8", task},
		"kombu, real gzip":         {"binary", kombu("gzip"), gzip, "binary", task},
		"kombu, zlib":              {"utf-8", kombu("zlib"), unhex(t, kombuZlib), "utf-8", task},
		"kombu, bzip2":             {"utf-8", kombu("application/x-bz2"), unhex(t, kombuBzip2), "utf-8", task},
		"kombu, none":              {"utf-8", kombu("none"), plain, "utf-8", kombu("none")},
		"another client's header":  {"", kombu(true), plain, "", kombu(true)},
		"header and encoding":      {"gzip", kombu("gzip"), gzip, "", task},
		"Spring AMQP":              {"gzip, UTF-8", amqp.Table{"springAutoDecompress": true, "task": "pay"}, gzip, "UTF-8", task},
		"Spring AMQP before 2.3":   {"gzip:UTF-8", task, gzip, "UTF-8", task},
		"Spring AMQP, zip":         {"zip:UTF-8", nil, zipped(t, "order 7"), "UTF-8", nil},
		"Spring AMQP, twice":       {"deflate, gzip, UTF-8", nil, encode(t, "deflate", gzip), "UTF-8", nil},
		"Spring AMQP, zip of gzip": {"zip:gzip", nil, zipped(t, string(gzip)), "", nil},
		"Spring AMQP, mixed":       {"gzip:deflate, UTF-8", nil, encode(t, "gzip", zlib), "UTF-8", nil},
		"HTTP":                     {"deflate, gzip", nil, encode(t, "gzip", zlib), "", nil},
		"HTTP, raw":                {"gzip, deflate", nil, raw(t, gzip), "", nil},
		"HTTP, spaces and case":    {" GZip ,  IDENTITY , X-Gzip", nil, encode(t, "gzip", gzip), "", nil},
		"charset first":            {"utf-8; gzip", nil, gzip, "utf-8", nil},
		"charset with a colon":     {"gzip, ISO_8859-1:1987", nil, gzip, "ISO_8859-1:1987", nil},
		"parameter":                {"gzip; charset=utf-8", nil, gzip, "charset=utf-8", nil},
		".NET, raw deflate":        {"deflate", nil, raw(t, plain), "", nil},
		"bzip2":                    {"bzip2", nil, unhex(t, kombuBzip2), "", nil},
	} {
		original := bytes.Clone(c.body)
		d := &Delivery{Delivery: amqp.Delivery{ContentEncoding: c.encoding, Headers: c.headers, Body: c.body}}
		err := Decompress(0)(func(_ context.Context, got *Delivery) error {
			if !bytes.Equal(got.Body, plain) || got.ContentEncoding != c.charset || !reflect.DeepEqual(got.Headers, c.within) {
				t.Errorf("%s: the handler got %q, encoding %q, headers %v", name, got.Body, got.ContentEncoding, got.Headers)
			}
			return nil
		})(t.Context(), d)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(d.Body, original) || d.ContentEncoding != c.encoding || !reflect.DeepEqual(d.Headers, c.headers) {
			t.Errorf("%s: the outer delivery was changed", name)
		}
	}
}

func TestDecompressRejectsOtherCompressionsOfKombu(t *testing.T) {
	for _, name := range []string{"application/x-brotli", "application/x-lzma", "application/zstd", "xz"} {
		h := Decompress(0)(func(context.Context, *Delivery) error { return nil })
		err := h(t.Context(), &Delivery{Delivery: amqp.Delivery{ContentEncoding: "utf-8", Headers: amqp.Table{"compression": name}, Body: []byte("x")}})
		if how, _ := classify(err); how != reject || !strings.Contains(err.Error(), `"`+name+`"`) || !strings.Contains(err.Error(), "compression") {
			t.Errorf("%s: %v, want a Reject that names the header and its value", name, err)
		}
	}
}

func TestCharsetsAreNotTakenForCompressions(t *testing.T) {
	for _, name := range strings.Fields(`utf-8 UTF-8 utf8 UTF_16LE utf-7 us-ascii ascii ANSI_X3.4-1968 646 binary 8bit iso-8859-1 ISO-8859-15 ISO_8859-1:1987
		iso8859-2 latin1 latin-9 l1 windows-1252 cp1251 Cp437 437 IBM850 ibm-1047 KOI8-R koi8-u Big5 Big5-HKSCS GB2312 GBK GB18030 EUC-JP
		euc-kr Shift_JIS sjis ISO-2022-JP ks_c_5601-1987 macintosh x-mac-cyrillic TIS-620 viscii HZ-GB-2312 hp-roman8 DEC-MCS JOHAB
		Adobe-Standard-Encoding SCSU BOCU-1 CESU-8 Extended_UNIX_Code_Packed_Format_for_Japanese csISOLatin1 x-windows-949 ucs-2 UNICODE-1-1`) {
		if !isCharset(name) {
			t.Errorf("%s is not recognized as a character set", name)
		}
	}
	for _, name := range strings.Fields(`gzip x-gzip deflate br brotli zstd compress x-compress lzma xz lz4 lzo snappy bzip2 bz2 zip zlib base64
		quoted-printable identity exi pack200-gzip aes128gcm dcb dcz encrypted hex uuencode`) {
		if isCharset(name) {
			t.Errorf("%s is taken for a character set", name)
		}
	}
}
