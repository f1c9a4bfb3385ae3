package producer

import (
	"context"
	"errors"
	"log/slog"
)

// totals count the outcomes of messages.
type totals struct {
	published, returned, nacked, unconfirmed, notPublished int
}

func (t *totals) add(err error) {
	switch {
	case err == nil:
		t.published++
	case errors.Is(err, ErrUnconfirmed):
		t.unconfirmed++
	case errors.Is(err, ErrNotPublished):
		t.notPublished++
	case errors.Is(err, ErrNacked):
		t.nacked++
	default:
		t.returned++
	}
}

func (t totals) log(ctx context.Context, to *slog.Logger) {
	to.LogAttrs(ctx, slog.LevelInfo, "producer: closed",
		slog.Int("published", t.published), slog.Int("returned", t.returned), slog.Int("nacked", t.nacked),
		slog.Int("unconfirmed", t.unconfirmed), slog.Int("not_published", t.notPublished))
}

// countRefused counts a message that was refused before it was submitted.
func (w *window) countRefused() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.totals.notPublished++
}

func (w *window) total() totals {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.totals
}
