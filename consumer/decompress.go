package consumer

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// The limits for decompressed bodies. Compression reduces text to a tenth or twentieth of its size; a body with a
// ratio above maxRatio is an attack. Up to ratioFloor bytes any ratio is accepted.
const (
	maxRatio   = 100
	ratioFloor = 64 << 10
	maxStages  = 4 // the maximum number of compressions of a body
)

// The headers of other clients.
const (
	kombuCompression = "compression"          // from kombu and Celery: the compression format of the body
	springDecompress = "springAutoDecompress" // from Spring AMQP: the receiver decompresses by the content-encoding
)

// Decompress returns a Middleware that decompresses bodies. It reads the formats from the content-encoding: gzip,
// deflate (zlib, or raw as written by .NET), zlib, bzip2 and zip (an archive of one file, as written by Spring AMQP).
// The content-encoding may list several formats, and character sets, in the syntax of HTTP or Spring AMQP: "gzip,
// deflate", "gzip:UTF-8". HTTP lists the outermost format last and Spring AMQP first, so the body's first bytes
// decide the order. If the content-encoding lists no compression, Decompress reads the header "compression" of kombu
// and Celery.
//
// An uncompressed body passes unchanged, with its character set ("utf-8", "binary") or "identity". Decompress rejects
// bodies that it cannot decode, because a retry would fail again: other formats, corrupt data and more than four
// formats. It also rejects bodies whose decoded form is larger than limit, in bytes (zero or less: 16 MiB), or larger
// than both 64 KiB and a hundred times the encoded form.
//
// The wrapped handler gets a copy of the delivery with the decoded body. Its content-encoding is the character set,
// or empty, and the headers that announced the compression are removed. The outer delivery is not changed, so that
// outer middleware can republish it as it was.
func Decompress(limit int) Middleware {
	if limit <= 0 {
		limit = validate.MaxBody
	}
	return func(next Handler) Handler {
		return func(ctx context.Context, d *Delivery) error {
			decoded, err := decompress(d, limit)
			if err != nil {
				return Reject(err)
			}
			return next(ctx, decoded)
		}
	}
}

// decompress returns d itself if it is not compressed.
func decompress(d *Delivery, limit int) (*Delivery, error) {
	formats, rest, err := parseEncoding(d.ContentEncoding)
	if err != nil {
		return nil, err
	}
	if len(formats) == 0 {
		if formats, err = parseCompression(d.Headers); err != nil {
			return nil, err
		}
	}
	if len(formats) == 0 {
		return d, nil
	}
	if len(formats) > maxStages {
		return nil, fmt.Errorf("content-encoding %s lists more than %d compressions", validate.Quote(d.ContentEncoding), maxStages)
	}
	decoded := *d
	if decoded.Body, err = decode(formats, d.Body, limit); err != nil {
		return nil, err
	}
	decoded.ContentEncoding = rest
	decoded.Headers = withoutCompression(d.Headers)
	return &decoded, nil
}

func withoutCompression(headers amqp.Table) amqp.Table {
	_, kombu := headers[kombuCompression]
	_, spring := headers[springDecompress]
	if !kombu && !spring {
		return headers
	}
	headers = maps.Clone(headers)
	delete(headers, kombuCompression)
	delete(headers, springDecompress)
	return headers
}

// parseEncoding splits a content-encoding into compressions and the character set.
func parseEncoding(encoding string) (formats []*format, rest string, err error) {
	var charsets []string
	add := func(token string) error {
		switch f, known := formatOf(token); {
		case token == "" || strings.EqualFold(token, "identity"):
		case known:
			formats = append(formats, f)
		case isCharset(strings.TrimPrefix(strings.ToLower(token), "charset=")):
			charsets = append(charsets, token)
		default:
			return fmt.Errorf("content-encoding %s: %s is neither a compression that can be decoded nor a character set",
				validate.Quote(encoding), validate.Quote(token))
		}
		return nil
	}
	for _, token := range strings.FieldsFunc(encoding, func(r rune) bool { return r == ',' || r == ';' }) {
		token = strings.TrimSpace(token)
		parts := []string{token}
		if !isCharset(token) { // the names of some character sets contain a colon
			parts = strings.Split(token, ":")
		}
		for _, part := range parts {
			if err := add(strings.TrimSpace(part)); err != nil {
				return nil, "", err
			}
		}
	}
	return formats, strings.Join(charsets, ", "), nil
}

// parseCompression reads kombu's header. kombu always sends a string.
func parseCompression(headers amqp.Table) ([]*format, error) {
	var name string
	switch v := headers[kombuCompression].(type) {
	case string:
		name = v
	case []byte:
		name = string(v)
	}
	switch strings.ToLower(name) {
	case "", "identity", "none":
		return nil, nil
	}
	f, known := kombuFormat(name)
	if !known {
		return nil, fmt.Errorf("header %q: %s cannot be decoded", kombuCompression, validate.Quote(name))
	}
	return []*format{f}, nil
}

// decode decodes a body in several formats. Every stage checks the limits.
func decode(formats []*format, body []byte, limit int) ([]byte, error) {
	if last := len(formats) - 1; last > 0 && !formats[0].begins(body) && formats[last].begins(body) {
		formats = slices.Clone(formats)
		slices.Reverse(formats) // in HTTP's order
	}
	encoded := len(body)
	most := max(ratioFloor, int(min(maxRatio*int64(encoded), math.MaxInt32)))
	for i, f := range formats {
		limit := limit
		if i < len(formats)-1 {
			limit += limit/64 + 1024 // compressing incompressible data enlarges it a little
		}
		decoded, err := f.decode(body, min(limit, most))
		switch {
		case err != nil:
			return nil, fmt.Errorf("decode the body as %s: %w", f.name, err)
		case len(decoded) > most && most < limit:
			return nil, fmt.Errorf("decode the body as %s: %d bytes become more than %d times as many", f.name, encoded, maxRatio)
		case len(decoded) > limit:
			return nil, fmt.Errorf("decode the body as %s: it is larger than %d bytes", f.name, limit)
		}
		body = decoded
	}
	return body, nil
}
