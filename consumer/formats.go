package consumer

import (
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A format is a compression format.
type format struct {
	name   string
	begins func(body []byte) bool // reports whether the body's first bytes fit the format
	open   func(body []byte) (io.Reader, error)
}

var (
	gzipFormat    = &format{"gzip", isGzip, openGzip}
	deflateFormat = &format{"deflate", func(b []byte) bool { return !isGzip(b) && !isBzip2(b) && !isZip(b) }, openDeflate}
	bzip2Format   = &format{"bzip2", isBzip2, func(body []byte) (io.Reader, error) { return bzip2.NewReader(bytes.NewReader(body)), nil }}
	zipFormat     = &format{"zip", isZip, openZip}
)

// formatOf returns the format for a name in a content-encoding.
func formatOf(name string) (*format, bool) {
	switch strings.TrimPrefix(strings.ToLower(name), "application/") {
	case "gzip", "x-gzip":
		return gzipFormat, true
	case "deflate", "x-deflate", "zlib", "x-zlib":
		return deflateFormat, true
	case "bzip2", "x-bzip2", "bzip", "bz2", "x-bz2":
		return bzip2Format, true
	case "zip", "x-zip", "x-zip-compressed":
		return zipFormat, true
	}
	return nil, false
}

// kombuFormat returns the format for a name in kombu's header. kombu writes the zlib format and calls it gzip.
func kombuFormat(name string) (*format, bool) {
	f, ok := formatOf(name)
	if f == gzipFormat {
		f = &format{"gzip", nil, func(body []byte) (io.Reader, error) {
			if isGzip(body) {
				return openGzip(body)
			}
			return openDeflate(body)
		}}
	}
	return f, ok
}

// decode returns the decoded body, or its first most+1 bytes if it is longer.
func (f *format) decode(body []byte, most int) ([]byte, error) {
	r, err := f.open(body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, int64(most)+1))
}

func isGzip(body []byte) bool  { return bytes.HasPrefix(body, []byte{0x1f, 0x8b}) }
func isBzip2(body []byte) bool { return bytes.HasPrefix(body, []byte("BZh")) }
func isZip(body []byte) bool   { return bytes.HasPrefix(body, []byte("PK\x03\x04")) }

// isZlib reports whether body has the header of RFC 1950.
func isZlib(body []byte) bool {
	return len(body) >= 2 && body[0]&0x0f == 8 && (uint(body[0])<<8|uint(body[1]))%31 == 0
}

func openGzip(body []byte) (io.Reader, error) { return gzip.NewReader(bytes.NewReader(body)) }

// openDeflate opens the zlib format, which RFC 9110 calls deflate, or the raw format of RFC 1951, which .NET and
// others write.
func openDeflate(body []byte) (io.Reader, error) {
	const reserved = 3 // the invalid block type of RFC 1951
	if len(body) == 0 || isZlib(body) || body[0]>>1&3 == reserved {
		return zlib.NewReader(bytes.NewReader(body))
	}
	rest := bytes.NewReader(body)
	return &checked{flate.NewReader(rest), rest}, nil
}

// checked reads a format without a checksum and reports trailing data as an error.
type checked struct {
	io.Reader
	rest *bytes.Reader
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if errors.Is(err, io.EOF) && c.rest.Len() > 0 {
		err = fmt.Errorf("%d bytes follow the compressed data", c.rest.Len())
	}
	return n, err
}

func openZip(body []byte) (io.Reader, error) {
	archive, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, err
	}
	if n := len(archive.File); n != 1 {
		return nil, fmt.Errorf("the archive has %d files, want one", n)
	}
	return archive.File[0].Open()
}
