package soak

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestAwaitQuietNeedsTwoEmptyChecks(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration // duration of a check
		empty []bool        // results of the first checks; later checks find the queues empty
		want  time.Duration // expected duration of awaitQuiet
	}{
		"quick checks": {0, nil, 3 * time.Second},
		"quick checks, the third finds a message": {0, []bool{true, true, false}, 3*time.Second + 600*time.Millisecond},
		"slow checks":                             {5 * time.Second, nil, 10*time.Second + 200*time.Millisecond},
		"slow checks, the first finds a message":  {5 * time.Second, []bool{false}, 15*time.Second + 400*time.Millisecond},
		"slow checks, the second finds a message": {5 * time.Second, []bool{true, false}, 20*time.Second + 600*time.Millisecond},
		"never empty before ctx ends":             {time.Second, make([]bool, 1000), time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began, checks := time.Now(), 0
				awaitQuiet(ctx, 3*time.Second, func() bool {
					sleep(ctx, c.takes)
					checks++
					return checks > len(c.empty) || c.empty[checks-1]
				})
				if took := time.Since(began); took != c.want {
					t.Errorf("quiet after %v and %d checks, want %v", took, checks, c.want)
				}
			})
		})
	}
}
