package logs

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRepeatedWarningsAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		logger := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		}}))
		var l Limiter
		for range 121 { // 0 s to 120 s
			l.Warn(t.Context(), logger, "full", "queue full", slog.String("queue", "orders"))
			time.Sleep(time.Second)
		}
		l.Reset("full")
		l.Warn(t.Context(), logger, "full", "queue full", slog.String("queue", "orders"))
		l.Warn(t.Context(), logger, "other", "other")
		const want = `msg="queue full" queue=orders
msg="queue full" queue=orders repeated=59
msg="queue full" queue=orders repeated=59
msg="queue full" queue=orders
msg=other
`
		if text.String() != want {
			t.Errorf("logged\n%swant\n%s", text.String(), want)
		}
	})
}

type source struct{ logger *slog.Logger }

func (s source) Logger() *slog.Logger { return s.logger }

func TestTheLoggerOfTheSourceIsTheDefault(t *testing.T) {
	own, its := slog.New(slog.DiscardHandler), slog.New(slog.DiscardHandler)
	for name, c := range map[string]struct {
		configured *slog.Logger
		source     any
		want       *slog.Logger
	}{
		"configured":            {own, source{its}, own},
		"of the source":         {nil, source{its}, its},
		"source without Logger": {nil, struct{}{}, slog.Default()},
		"source with nil":       {nil, source{}, slog.Default()},
	} {
		if got := For(c.configured, c.source); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
