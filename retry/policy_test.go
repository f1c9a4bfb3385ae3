package retry

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/amqperr"
)

// waits returns every delay that p gives to a message of age 0, until it is over.
func waits(p Policy) []time.Duration {
	var ds []time.Duration
	for attempt := 1; ; attempt++ {
		d, ok := p.Next(attempt, 0)
		if !ok {
			return ds
		}
		ds = append(ds, d)
	}
}

func TestNextGivesEachDelayThenIsOver(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		policy Policy
		want   []time.Duration
	}{
		"schedule":                   {Schedule(10*s, time.Minute), []time.Duration{10 * s, 60 * s}},
		"schedule, one":              {Schedule(s), []time.Duration{s}},
		"schedule, not growing":      {Schedule(5*s, s, 5*s), []time.Duration{5 * s, s, 5 * s}},
		"schedule, cut":              {Schedule(s, 2*s, 3*s).MaxAttempts(3), []time.Duration{s, 2 * s}},
		"schedule, last repeats":     {Schedule(s, 2*s).MaxAttempts(5), []time.Duration{s, 2 * s, 2 * s, 2 * s}},
		"never":                      {Schedule(s).MaxAttempts(1), nil},
		"exponential":                {Exponential(s, time.Minute), []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s}},
		"exponential, power of two":  {Exponential(s, 4*s), []time.Duration{s, 2 * s, 4 * s}},
		"exponential, constant":      {Exponential(s, s), []time.Duration{s}},
		"exponential, cut":           {Exponential(s, time.Minute).MaxAttempts(3), []time.Duration{s, 2 * s}},
		"exponential, max repeats":   {Exponential(s, 3*s).MaxAttempts(6), []time.Duration{s, 2 * s, 3 * s, 3 * s, 3 * s}},
		"age below the third delay":  {Exponential(s, 8*s).MaxAge(3 * s), []time.Duration{s, 2 * s}},
		"zero policy":                {Policy{}, nil},
		"refused, only by jitter":    {Schedule(s).Jitter(2), nil},
		"refused, only by arguments": {Exponential(-s, s).MaxAttempts(9), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := waits(c.policy); !slices.Equal(got, c.want) {
				t.Errorf("delays = %v, want %v", got, c.want)
			}
		})
	}
}

func TestNextIsOverForInvalidAttemptNumbers(t *testing.T) {
	for _, attempt := range []int{math.MinInt, -1, 0} {
		if d, ok := Schedule(time.Second).Next(attempt, 0); ok || d != 0 {
			t.Errorf("Next(%d) = %v, %v, want over", attempt, d, ok)
		}
	}
}

func TestMaxAgeAllowsOnlyDelaysThatEndInTime(t *testing.T) {
	p := Schedule(10 * time.Second).MaxAge(time.Minute)
	for age, want := range map[time.Duration]bool{
		math.MinInt64:                 true, // clocks differ: counts as 0
		-time.Hour:                    true,
		0:                             true,
		50 * time.Second:              true,
		50*time.Second + 1:            false,
		time.Minute:                   false,
		time.Hour:                     false,
		math.MaxInt64:                 false,
		maxDelay - 50*time.Nanosecond: false,
	} {
		if _, ok := p.Next(1, age); ok != want {
			t.Errorf("Next(1, %v) ok = %v, want %v", age, ok, want)
		}
		if _, ok := p.Jitter(1).Next(1, age); ok != want {
			t.Errorf("Next(1, %v) with jitter ok = %v, want %v: jitter must not decide", age, ok, want)
		}
	}
	if _, ok := p.MaxAge(0).Next(1, math.MaxInt64); !ok {
		t.Error("MaxAge(0) limits the age, want no limit")
	}
}

func TestExponentialDoublesUpToMax(t *testing.T) {
	for _, initial := range []time.Duration{time.Millisecond, 3 * time.Millisecond, 999 * time.Millisecond, time.Second, time.Hour, maxDelay/2 - time.Millisecond, maxDelay} {
		for _, most := range []time.Duration{initial, initial + time.Millisecond, time.Minute, 25 * time.Hour, maxDelay - time.Millisecond, maxDelay} {
			if most < initial || most > maxDelay {
				continue
			}
			var want []time.Duration
			for d := initial; d < most; d *= 2 {
				want = append(want, d)
			}
			want = append(want, most)
			if got := waits(Exponential(initial, most)); !slices.Equal(got, want) {
				t.Errorf("Exponential(%v, %v) = %v, want %v", initial, most, got, want)
			}
		}
	}
}

func TestJitterSpreadsEvenlyBelowTheDelay(t *testing.T) {
	const draws, buckets = 20_000, 10
	for _, jitter := range []float64{0.1, 0.5, 1} {
		rnd := rand.New(rand.NewPCG(1, 2)) // seeded: the same draws in every run
		low := time.Duration(float64(10*time.Second) * (1 - jitter))
		width := (10*time.Second - low) / buckets
		var count [buckets]int
		for range draws {
			d := jittered(10*time.Second, jitter, rnd.Int64N)
			if d < low || d > 10*time.Second || d%time.Millisecond != 0 {
				t.Fatalf("jitter %v: delay %v, want whole milliseconds from %v to 10s", jitter, d, low)
			}
			count[min(int((d-low)/width), buckets-1)]++
		}
		for i, n := range count {
			if n < draws/buckets*9/10 || n > draws/buckets*11/10 {
				t.Errorf("jitter %v: tenth %d of the range got %d of %d draws: %v", jitter, i, n, draws, count)
			}
		}
	}
}

func TestJitterReachesBothEnds(t *testing.T) {
	lowest := func(n int64) int64 { return n - 1 }
	highest := func(int64) int64 { return 0 }
	for _, c := range []struct {
		delay     time.Duration
		jitter    float64
		low, high time.Duration
	}{
		{10 * time.Second, 1, 0, 10 * time.Second},
		{10 * time.Second, 0.5, 5 * time.Second, 10 * time.Second},
		{10 * time.Second, 0, 10 * time.Second, 10 * time.Second},
		{time.Millisecond, 0.5, time.Millisecond, time.Millisecond}, // less than a millisecond is not spread
		{maxDelay, 1, 0, maxDelay},
	} {
		low, high := jittered(c.delay, c.jitter, lowest), jittered(c.delay, c.jitter, highest)
		if low != c.low || high != c.high {
			t.Errorf("%v with jitter %v: from %v to %v, want from %v to %v", c.delay, c.jitter, low, high, c.low, c.high)
		}
	}
}

func TestPoliciesMayBeUsedConcurrently(t *testing.T) {
	good := Exponential(time.Millisecond, time.Second).Jitter(1)
	faulty := Schedule(-1, -2, -3)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for attempt := range 100 {
				good.Next(attempt, 0)
				if err := faulty.MaxAttempts(-i).validate("Policy"); err == nil {
					t.Error("a faulty policy is valid")
				}
			}
		})
	}
	wg.Wait()
}

func TestSettingALimitLeavesTheOriginalAlone(t *testing.T) {
	delays := []time.Duration{time.Second, time.Minute}
	p := Schedule(delays...)
	delays[0] = time.Hour
	p.MaxAttempts(9)
	p.MaxAge(time.Hour)
	p.Jitter(1)
	if got, want := p.String(), "1s, 1m0s, then park"; got != want {
		t.Errorf("policy = %q, want %q", got, want)
	}
}

func TestStringNamesTheDelaysWithinTheLimits(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		policy Policy
		text   string
	}{
		"schedule":     {Schedule(10*s, time.Minute), "10s, 1m0s, then park"},
		"duplicates":   {Schedule(s, s, 5*s, s), "1s, 1s, 5s, 1s, then park"},
		"cut":          {Schedule(s, 2*s, 3*s).MaxAttempts(3), "1s, 2s, then park"},
		"repeated":     {Exponential(s, 4*s).MaxAttempts(8), "1s, 2s, 4s ×5, then park"},
		"twice + last": {Schedule(s, s).MaxAttempts(5), "1s, 1s ×3, then park"},
		"huge":         {Exponential(s, 4*s).MaxAttempts(math.MaxInt), fmt.Sprintf("1s, 2s, 4s ×%d, then park", math.MaxInt-3)},
		"jitter, age":  {Schedule(s).Jitter(0.5).MaxAge(time.Hour), "1s, then park; jitter 0.5; max age 1h0m0s"},
		"beyond age":   {Schedule(s, time.Hour, 2*s).MaxAge(time.Minute), "1s, then park; max age 1m0s"},
		"no retry":     {Schedule(s).MaxAttempts(1), "park at once"},
		"zero":         {Policy{}, "park at once"},
		"refused":      {Schedule(s, -s), "park at once"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.policy.String(); got != c.text {
				t.Errorf("String = %q, want %q", got, c.text)
			}
		})
	}
}

func TestValidateReportsEveryFaultAtOnce(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		policy Policy
		fields []string
	}{
		"schedule":                  {Schedule(10*s, time.Minute), nil},
		"exponential":               {Exponential(s, time.Minute), nil},
		"the limits":                {Exponential(time.Millisecond, maxDelay).MaxAttempts(math.MaxInt).MaxAge(math.MaxInt64).Jitter(1), nil},
		"lower limits":              {Schedule(time.Millisecond).MaxAttempts(1).MaxAge(time.Millisecond).Jitter(0), nil},
		"zero policy":               {Policy{}, []string{"Policy"}},
		"empty schedule":            {Schedule(), []string{"Policy"}},
		"delays":                    {Schedule(0, -s, s, maxDelay+time.Millisecond, 1500*time.Microsecond), []string{"Policy.Delays[0]", "Policy.Delays[1]", "Policy.Delays[3]", "Policy.Delays[4]"}},
		"initial":                   {Exponential(0, s), []string{"Policy.initial"}},
		"initial beneath 1ms":       {Exponential(1, s), []string{"Policy.initial"}},
		"max":                       {Exponential(s, maxDelay+time.Millisecond), []string{"Policy.max"}},
		"both":                      {Exponential(-s, math.MaxInt64), []string{"Policy.initial", "Policy.max"}},
		"swapped":                   {Exponential(time.Minute, s), []string{"Policy.max"}},
		"attempts 0":                {Schedule(s).MaxAttempts(0), []string{"Policy.MaxAttempts"}},
		"attempts negative":         {Schedule(s).MaxAttempts(math.MinInt), []string{"Policy.MaxAttempts"}},
		"age negative":              {Schedule(s).MaxAge(math.MinInt64), []string{"Policy.MaxAge"}},
		"age beneath first delay":   {Schedule(s).MaxAge(s - 1), []string{"Policy.MaxAge"}},
		"jitter negative":           {Schedule(s).Jitter(-0.1), []string{"Policy.Jitter"}},
		"jitter above 1":            {Schedule(s).Jitter(1.1), []string{"Policy.Jitter"}},
		"jitter NaN":                {Schedule(s).Jitter(math.NaN()), []string{"Policy.Jitter"}},
		"everything":                {Exponential(s, 0).MaxAttempts(0).MaxAge(-1).Jitter(-1), []string{"Policy.max", "Policy.MaxAttempts", "Policy.MaxAge", "Policy.Jitter"}},
		"empty schedule, otherwise": {Schedule().MaxAttempts(3).MaxAge(s).Jitter(3), []string{"Policy", "Policy.Jitter"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.policy.validate("Policy")
			if got := faultyFields(t, err); !slices.Equal(got, c.fields) {
				t.Errorf("Validate = %v, want faults in %v", err, c.fields)
			}
			if err != nil && !amqperr.IsPermanent(err) {
				t.Error("a wrong policy is not permanent")
			}
		})
	}
}

func faultyFields(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("Validate = %#v, want joined errors", err)
	}
	var fields []string
	for _, e := range joined.Unwrap() {
		var f *amqperr.FieldError
		if !errors.As(e, &f) || f.Package != "retry" || f.Problem == "" || f.Fix == "" {
			t.Errorf("%#v is not a complete amqperr.FieldError of this package", e)
			continue
		}
		fields = append(fields, f.Field)
	}
	return fields
}

// FuzzPolicy checks what holds for every policy, message and random number.
func FuzzPolicy(f *testing.F) {
	f.Add(int64(time.Second), int64(time.Minute), 8, int64(time.Hour), 0.5, 3, int64(time.Minute))
	f.Add(int64(1), int64(maxDelay), math.MaxInt, int64(0), 1.0, math.MaxInt-1, int64(math.MaxInt64))
	f.Add(int64(maxDelay), int64(maxDelay), math.MaxInt, int64(math.MaxInt64), 1.0, math.MaxInt/2, int64(math.MinInt64))
	f.Add(int64(math.MinInt64), int64(math.MaxInt64), math.MinInt, int64(math.MinInt64), math.NaN(), math.MinInt, int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, initial, most int64, attempts int, maxAge int64, jitter float64, attempt int, age int64) {
		base := Exponential(time.Duration(initial), time.Duration(most)).MaxAttempts(attempts).MaxAge(time.Duration(maxAge))
		p := base.Jitter(jitter)
		d, ok := p.Next(attempt, time.Duration(age))
		if p.validate("") != nil {
			if ok || d != 0 || !slices.Equal(waits(p), nil) || p.BackOff().NextBackOff() >= 0 {
				t.Fatalf("an invalid policy retries: %v, %v", d, ok)
			}
			return
		}
		if !ok {
			if attempt >= 1 && attempt < attempts && maxAge == 0 {
				t.Fatalf("over at attempt %d of %d", attempt, attempts)
			}
			return
		}
		if attempt < 1 || attempt >= attempts {
			t.Fatalf("attempt %d retried, the policy allows %d", attempt, attempts)
		}
		full, _ := base.Next(attempt, time.Duration(age))
		if !slices.Contains(base.delays, full) {
			t.Fatalf("delay %v is not a delay of the policy: %v", full, base.delays)
		}
		if low := float64(full) * (1 - jitter); d < 0 || d > full || full > time.Duration(most) || float64(d) < low-1 {
			t.Fatalf("delay %v, want within [%v, %v] and at most %v", d, time.Duration(low), full, time.Duration(most))
		}
		if d%time.Millisecond != 0 {
			t.Fatalf("delay %v is not a whole number of milliseconds", d)
		}
		if maxAge > 0 && full > time.Duration(maxAge) {
			t.Fatalf("delay %v exceeds the age limit %v", full, time.Duration(maxAge))
		}
		if before, ok := base.Next(attempt-1, time.Duration(age)); attempt > 1 && (!ok || before > full) {
			t.Fatalf("attempt %d waits %v (%v), attempt %d waits %v: delays must not shrink", attempt-1, before, ok, attempt, full)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	p := Exponential(time.Second, time.Minute).MaxAge(time.Hour).Jitter(0.5)
	b.ReportAllocs()
	for b.Loop() {
		p.Next(5, time.Minute)
	}
}
