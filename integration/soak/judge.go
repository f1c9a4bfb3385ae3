package soak

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// The bounds that the promises state, besides those of the run. Durations are in nanoseconds.
const (
	tolerance    = int64(250 * time.Millisecond) // by which a call may outlive its ctx
	slack        = int64(time.Second)            // in which an answer that the client has read becomes an outcome
	resumeTime   = int64(2 * time.Second)        // beyond Run.Reconnect, from the end of a fault to traffic
	maxResumeTime      = int64(15 * time.Second)       // from the end of a fault to traffic, whatever the run's settings
	deadlineMargin   = int64(5 * time.Millisecond)   // an outcome this close to the end of a ctx is owed to it
	heapGrowth   = 64 << 20                      // bytes, from the first third of a run to the last
	minHeapDuration = 2 * time.Minute               // of a run, for its heap to say anything
)

// What a run is.
const (
	Valid   = "valid"   // nothing contradicts the promises, and there was enough of everything to tell
	Failed  = "failed"  // something does
	Invalid = "invalid" // nothing does, but too little happened
)

// A Result is a run, judged: the last line that the command prints.
type Result struct {
	Verdict string `json:"verdict"`

	Confirmed   int `json:"confirmed"`
	Delivered   int `json:"delivered"`    // messages that a handler got at least once
	Lost        int `json:"lost"`         // confirmed, or delivered, and never processed; or a copy of what is retried
	Phantom     int `json:"phantom"`      // handled, or sent, although certainly not published; or refused and handled
	Unexpected  int `json:"unexpected"`   // handled or sent, and never published, or under another message id
	Corrupt     int `json:"corrupt"`      // handled with another body
	FalseSettle int `json:"false_settle"` // settlements on the wire without their handler's result before them
	Misreported int `json:"misreported"`  // outcomes that the wire disproves, answers that got lost, needless repeats
	Overtried   int `json:"overtried"`    // attempts beyond the policy, out of their count, or before their delay was over

	Retried int `json:"retried"` // messages that had a further attempt after one that failed
	Parked  int `json:"parked"`  // messages that came out of the parking queue
	Stayed  int `json:"stayed"`  // failed deliveries that went back, their way to another queue being blocked or lost

	Duplicates  int `json:"duplicates"`  // deliveries of what had been processed
	Unexplained int `json:"unexplained"` // of these, without a redelivery, a repeat or an outage behind them
	Unknown     int `json:"unknown"`     // unconfirmed, those with a ctx too short on purpose left out
	Recovered   int `json:"recovered"`   // of all unconfirmed ones, those that were stored all the same
	Inversions  int `json:"inversions"`  // first deliveries out of their publisher's order
	Disordered  int `json:"disordered"`  // of these, without a redelivery or a repeat behind them
	Blocked     int `json:"blocked"`     // publishers that were told of an alarm
	Late        int `json:"late"`        // calls that outlived their ctx, and faults after which traffic was slow to resume

	// From the loss of a connection that was closed by force, the broker being up, to the next confirm, or delivery, of
	// the same client: its publishing, or consuming, connection has to be made again in between.
	RecoveryP50 float64 `json:"recovery_p50_ms"`
	RecoveryP99 float64 `json:"recovery_p99_ms"`
	Recoveries  int     `json:"recoveries"`
	ConfirmP50  float64 `json:"recovery_confirm_p50_ms"`
	ConfirmP99  float64 `json:"recovery_confirm_p99_ms"`
	DeliveryP50 float64 `json:"recovery_delivery_p50_ms"`
	DeliveryP99 float64 `json:"recovery_delivery_p99_ms"`

	// From the moment when the broker accepts connections again to the next confirm, or delivery, of each client.
	OutageP50 float64 `json:"outage_p50_ms"`
	OutageMax float64 `json:"outage_max_ms"`
	Outages   int     `json:"outages"`

	GoroutinesLeaked int `json:"goroutines_leaked"`
	SocketsLeaked    int `json:"sockets_leaked"`

	Faults    int            `json:"faults"`
	ByKind    map[string]int `json:"faults_by_kind"`
	Minimums  map[string]int `json:"minimums"`
	Outcomes  map[string]int `json:"outcomes"`
	PerSecond float64        `json:"confirmed_per_second"`

	Nodes   int     `json:"nodes"`
	Seconds float64 `json:"seconds"`
	Seed    uint64  `json:"seed"`
	Broker  string  `json:"broker"`

	Reasons []string `json:"reasons,omitempty"` // why the verdict is not valid
}

// Judge reads a history and judges it by nothing else. The error is of the reading.
func Judge(history io.Reader) (*Result, error) {
	s, err := replay(Read(history))
	if err != nil {
		return nil, err
	}
	return s.judge(), nil
}

func (s *state) judge() *Result {
	f := &findings{by: map[string]*finding{}}
	r := &Result{
		Minimums: s.run.Minimums, Nodes: s.run.Nodes, Seed: s.run.Seed, Broker: s.run.Broker,
		ByKind:   map[string]int{},
		Outcomes: map[string]int{},
	}
	if s.end != nil {
		r.Seconds = time.Duration(s.end.Lasted).Seconds()
	}
	s.judgeOutcomes(f, r)
	s.judgeReports(f)
	s.judgeSettlements(f)
	s.judgeRetries(f, r)
	s.judgeRepeats(f, r)
	s.judgeTimes(f, r)
	s.judgeResources(f, r)
	if s.end == nil || s.end.Err != "" { // then nothing that is missing is missed, such as an outcome that tells a message id
		f.drop(lost, unexpected, unaccounted, late, leaked)
	}

	r.Lost, r.Phantom, r.Unexpected, r.Corrupt = f.n(lost), f.n(phantom), f.n(unexpected), f.n(corrupt)
	r.FalseSettle, r.Misreported, r.Late = f.n(falseSettled), f.n(misreported), f.n(late)
	r.Unexplained, r.Overtried = f.n(duplicated), f.n(overtried)
	r.Reasons = f.reasons()
	r.Verdict = Failed
	if len(r.Reasons) == 0 {
		r.Reasons = s.missing(r)
		r.Verdict = Invalid
	}
	if len(r.Reasons) == 0 {
		r.Verdict = Valid
	}
	return r
}

// missing says of what there was too little.
func (s *state) missing(r *Result) []string {
	var reasons []string
	short := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	switch {
	case s.end == nil:
		short("the history is not complete")
	case s.end.Err != "":
		short("the run was not finished: %s", s.end.Err)
	}
	for _, kind := range slices.Sorted(maps.Keys(s.run.Minimums)) {
		if n, least := r.ByKind[kind], s.run.Minimums[kind]; n < least {
			short("%d faults of kind %s, which takes %d", n, kind, least)
		}
	}
	if r.PerSecond < float64(s.run.Rate) {
		short("%.0f messages confirmed a second, which takes %d", r.PerSecond, s.run.Rate)
	}
	for _, what := range []string{Confirmed, Returned, Nacked, Unconfirmed, NotPublished} {
		if r.Outcomes[what] == 0 {
			short("no outcome %q", what)
		}
	}
	if s.run.Minimums[Alarm]+s.run.Minimums[Blocked] > 0 && r.Blocked == 0 {
		short("no publisher was told that the broker blocks")
	}
	for _, result := range []string{OK, Fail, Reject, Requeue} {
		if !slices.ContainsFunc(s.order, func(m *message) bool {
			return slices.ContainsFunc(m.handled, func(h *handling) bool { return h.Result == result })
		}) {
			short("no handler's result %q", result)
		}
	}
	if least := s.run.Retry.Enough; r.Retried < least || r.Parked < least {
		short("%d messages retried and %d parked, which takes %d of both", r.Retried, r.Parked, least)
	}
	return reasons
}

// The kinds of findings. Each makes a run failed.
const (
	lost         = "lost"
	phantom      = "phantom"
	unexpected   = "unexpected"
	corrupt      = "corrupt"
	falseSettled = "false settle"
	refused      = "refused by the broker"
	misreported  = "misreported"
	overtried    = "overtried"
	duplicated   = "unexplained duplicate"
	disordered   = "out of order"
	tooManyUnknown   = "too many unknown"
	unaccounted  = "not accounted for"
	late         = "late"
	stoppedEarly       = "gave up"
	leaked         = "left behind"
)

// findings are what contradicts the promises.
type findings struct {
	kinds []string // in the order of their first finding
	by    map[string]*finding
}

type finding struct {
	n        int
	examples []string
}

// examples is how many findings of a kind are told in full.
const examples = 3

func (f *findings) add(kind, format string, args ...any) {
	x := f.by[kind]
	if x == nil {
		x = &finding{}
		f.by[kind] = x
		f.kinds = append(f.kinds, kind)
	}
	x.n++
	if len(x.examples) < examples {
		x.examples = append(x.examples, fmt.Sprintf(format, args...))
	}
}

func (f *findings) drop(kinds ...string) {
	f.kinds = slices.DeleteFunc(f.kinds, func(kind string) bool { return slices.Contains(kinds, kind) })
	for _, kind := range kinds {
		delete(f.by, kind)
	}
}

func (f *findings) n(kind string) int {
	if x := f.by[kind]; x != nil {
		return x.n
	}
	return 0
}

func (f *findings) reasons() []string {
	var reasons []string
	for _, kind := range f.kinds {
		x := f.by[kind]
		reasons = append(reasons, fmt.Sprintf("%s: %d, such as %s", kind, x.n, strings.Join(x.examples, "; ")))
	}
	return reasons
}

// seconds writes a moment for people.
func seconds(at int64) string {
	if at == never {
		return "never"
	}
	return fmt.Sprintf("%.3f s", time.Duration(at).Seconds())
}
