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

// How much a body may grow. Text shrinks to a tenth or twentieth; a body below a hundredth is an attack. Up to ratioFloor
// any ratio is accepted.
const (
	maxRatio   = 100
	ratioFloor = 64 << 10
	maxStages  = 4 // compressions of one body
)

// Headers of other clients.
const (
	kombuCompression = "compression"          // kombu's and Celery's: the format in which the body is compressed
	springDecompress = "springAutoDecompress" // Spring AMQP's: the receiver decompresses by the content-encoding
)

// Decompress returns a Middleware that decompresses bodies. It finds the formats in the content-encoding: gzip,
// deflate (zlib, or raw as .NET writes it), zlib, bzip2 and zip (an archive of one file, as Spring AMQP writes it). The
// content-encoding may list several, and character sets, in the ways of HTTP and Spring AMQP: "gzip, deflate",
// "gzip:UTF-8". HTTP lists the outermost format last and Spring AMQP first, so that the body's first bytes decide. If
// the content-encoding lists no compression, Decompress reads the header "compression" of kombu and Celery.
//
// A body without a compression passes unchanged, with its character set ("utf-8", "binary") or "identity".
// Decompress rejects bodies that it cannot decode, because a further attempt would not help: other formats, corrupt
// data, more than four formats, and bodies whose decoded form is larger than limit, in bytes (zero or less:
// 16 MiB), or larger than both 64 KiB and a hundred times the encoded form.
//
// The handler within gets a copy of the delivery with the decoded body. Its content-encoding is the character set, or
// empty, and the headers that announced the compression are removed. The delivery outside stays as it was published,
// so that a middleware there can pass it on unchanged.
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

// parseEncoding splits a content-encoding into compressions and the rest, the character set.
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
		if !isCharset(token) { // some character sets have a colon in their name
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

// decode decodes a body in several formats. Every stage keeps to the bounds.
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
			limit += limit/64 + 1024 // data that does not shrink grows a little
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
