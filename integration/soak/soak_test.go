package soak

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestQuietTakesLooksThatFoundNothingHoweverLongTheyTake(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration // a look
		finds []bool        // whether it is empty; from then on it is
		want  time.Duration // until it is quiet
	}{
		"quick looks":                  {0, nil, 3 * time.Second},
		"quick looks, the third finds": {0, []bool{true, true, false}, 3*time.Second + 600*time.Millisecond},
		"slow looks":                   {5 * time.Second, nil, 10*time.Second + 200*time.Millisecond},
		"slow looks, the first finds":  {5 * time.Second, []bool{false}, 15*time.Second + 400*time.Millisecond},
		"slow looks, the second finds": {5 * time.Second, []bool{true, false}, 20*time.Second + 600*time.Millisecond},
		"it is never quiet before ctx": {time.Second, make([]bool, 1000), time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began, looks := time.Now(), 0
				awaitQuiet(ctx, 3*time.Second, func() bool {
					sleep(ctx, c.takes)
					looks++
					return looks > len(c.finds) || c.finds[looks-1]
				})
				if took := time.Since(began); took != c.want {
					t.Errorf("quiet after %v and %d looks, want %v", took, looks, c.want)
				}
			})
		})
	}
}
