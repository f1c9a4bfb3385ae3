package consumer

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/amqpkit/amqpkit/internal/wire"
)

// How much a body may grow: text shrinks to a tenth or twentieth, and what shrinks to less than a
// hundredth was made to. Below ratioFloor any ratio will do.
const (
	maxRatio   = 100
	ratioFloor = 64 << 10
)

// Decompress returns a Middleware that decodes bodies by their content-encoding: gzip, and
// deflate in the zlib format. Without an encoding, or with "identity", a body passes as it is.
// What cannot be decoded is rejected, because no further attempt would change that: an encoding
// unknown here, corrupt data, and a body that decoded is larger than limit, in bytes (zero or
// less: 16 MiB), or larger than 64 KiB and a hundred times the encoded one.
//
// The handler within gets a copy of the delivery, with the decoded body and no
// content-encoding. The delivery outside stays what was published, so that a middleware there
// can pass it on unchanged.
func Decompress(limit int) Middleware {
	if limit <= 0 {
		limit = wire.MaxBody
	}
	return func(next Handler) Handler {
		return func(ctx context.Context, d *Delivery) error {
			body, encoded, err := decode(d.ContentEncoding, d.Body, limit)
			if err != nil {
				return Reject(err)
			}
			if !encoded {
				return next(ctx, d)
			}
			decoded := *d
			decoded.Body, decoded.ContentEncoding = body, ""
			return next(ctx, &decoded)
		}
	}
}

// decode returns the decoded body, or false if it is not encoded.
func decode(encoding string, body []byte, limit int) (_ []byte, encoded bool, _ error) {
	var r io.ReadCloser
	var err error
	switch strings.ToLower(encoding) {
	case "", "identity":
		return nil, false, nil
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(bytes.NewReader(body))
	case "deflate":
		r, err = zlib.NewReader(bytes.NewReader(body))
	default:
		return nil, false, fmt.Errorf("content-encoding %s is none that can be decoded", wire.Quote(encoding))
	}
	if err != nil {
		return nil, false, fmt.Errorf("decode the body as %s: %w", encoding, err)
	}
	defer r.Close()
	most := min(limit, max(ratioFloor, maxRatio*len(body)))
	decoded, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("decode the body as %s: %w", encoding, err)
	case len(decoded) > most && most < limit:
		return nil, false, fmt.Errorf("decode the body as %s: %d bytes become more than %d times as many", encoding, len(body), maxRatio)
	case len(decoded) > most:
		return nil, false, fmt.Errorf("decode the body as %s: it is larger than %d bytes", encoding, limit)
	}
	return decoded, true, nil
}
