package soak

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Limits that the promises state. Further limits come from the settings of the run. Durations are in nanoseconds.
const (
	tolerance       = int64(250 * time.Millisecond) // how long a call may outlive its ctx
	slack           = int64(time.Second)            // from an answer that the client has read to its outcome
	resumeTime      = int64(2 * time.Second)        // from the end of a fault to traffic, in addition to Settings.Reconnect
	maxResumeTime   = int64(15 * time.Second)       // from the end of a fault to traffic, with any settings
	deadlineMargin  = int64(5 * time.Millisecond)   // an outcome this close to its deadline may be caused by it
	heapGrowth      = 64 << 20                      // bytes, from the first third of a run to the last
	minHeapDuration = 2 * time.Minute               // shortest run whose heap growth is judged
)

// Values of Result.Verdict.
const (
	Valid   = "valid"   // no contradiction, and every minimum was reached
	Failed  = "failed"  // the history contradicts a promise
	Invalid = "invalid" // no contradiction, but too few events
)

// A Result is the judgement of a run. The command prints it as its last line.
type Result struct {
	Verdict string `json:"verdict"`

	Confirmed   int `json:"confirmed"`
	Delivered   int `json:"delivered"`    // messages handled at least once
	Lost        int `json:"lost"`         // messages confirmed or delivered but never processed, and lost copies of retried messages
	Phantom     int `json:"phantom"`      // messages handled or sent although reported as not published, or handled although returned or nacked
	Unexpected  int `json:"unexpected"`   // messages handled or sent but never published, or under another message id
	Corrupt     int `json:"corrupt"`      // deliveries with a changed body
	FalseSettle int `json:"false_settle"` // invalid settlements on the wire, such as an ack before the handler returned
	Misreported int `json:"misreported"`  // outcomes that the wire disproves, answers without an outcome, needless resends
	Overtried   int `json:"overtried"`    // attempts beyond the policy, with a wrong number, or before their delay elapsed

	Retried int `json:"retried"` // messages with an attempt after a failed one
	Parked  int `json:"parked"`  // messages delivered from the parking queue
	Stayed  int `json:"stayed"`  // failed deliveries that were requeued because their move failed

	Duplicates  int `json:"duplicates"`  // deliveries of messages that were already processed
	Unexplained int `json:"unexplained"` // duplicates without a redelivery, a resend or an outage as the reason
	Unknown     int `json:"unknown"`     // unconfirmed messages, without those whose ctx was too short on purpose
	Recovered   int `json:"recovered"`   // unconfirmed messages that were delivered
	Inversions  int `json:"inversions"`  // first deliveries out of the publisher's order
	Disordered  int `json:"disordered"`  // inversions without a redelivery or a resend as the reason
	Blocked     int `json:"blocked"`     // publishes that failed because the broker blocked publishers
	Late        int `json:"late"`        // calls that outlived their ctx, and faults after which traffic resumed too late

	// Time from the loss of a forcibly closed connection, with the broker running, to the client's next confirm or
	// delivery. It includes the reconnect of the publishing or consuming connection.
	RecoveryP50 float64 `json:"recovery_p50_ms"`
	RecoveryP99 float64 `json:"recovery_p99_ms"`
	Recoveries  int     `json:"recoveries"`
	ConfirmP50  float64 `json:"recovery_confirm_p50_ms"`
	ConfirmP99  float64 `json:"recovery_confirm_p99_ms"`
	DeliveryP50 float64 `json:"recovery_delivery_p50_ms"`
	DeliveryP99 float64 `json:"recovery_delivery_p99_ms"`

	// Time from when the broker accepts connections again to each client's next confirm or delivery.
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

	Reasons []string `json:"reasons,omitempty"` // findings or missing minimums; empty if valid
}

// Judge judges the history. It uses no other source. An error means that the history could not be read.
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
	if s.end == nil || s.end.Err != "" { // an aborted run lacks records, such as an outcome with its message id
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

// missing returns the minimums that the run did not reach.
func (s *state) missing(r *Result) []string {
	var reasons []string
	short := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	switch {
	case s.end == nil:
		short("the history is incomplete")
	case s.end.Err != "":
		short("the run did not finish: %s", s.end.Err)
	}
	for _, kind := range slices.Sorted(maps.Keys(s.run.Minimums)) {
		if n, least := r.ByKind[kind], s.run.Minimums[kind]; n < least {
			short("%d faults of kind %s, want at least %d", n, kind, least)
		}
	}
	if r.PerSecond < float64(s.run.Rate) {
		short("%.0f messages confirmed a second, want at least %d", r.PerSecond, s.run.Rate)
	}
	for _, what := range []string{Confirmed, Returned, Nacked, Unconfirmed, NotPublished} {
		if r.Outcomes[what] == 0 {
			short("no outcome %q", what)
		}
	}
	if s.run.Minimums[Alarm]+s.run.Minimums[Blocked] > 0 && r.Blocked == 0 {
		short("no publish failed with ErrBlocked")
	}
	for _, result := range []string{OK, Fail, Reject, Requeue} {
		if !slices.ContainsFunc(s.order, func(m *message) bool {
			return slices.ContainsFunc(m.handled, func(h *handling) bool { return h.Result == result })
		}) {
			short("no handler returned %q", result)
		}
	}
	if least := s.run.Retry.Enough; r.Retried < least || r.Parked < least {
		short("%d messages retried and %d parked, want at least %d each", r.Retried, r.Parked, least)
	}
	return reasons
}

// Kinds of findings. Any finding fails the run.
const (
	lost           = "lost"
	phantom        = "phantom"
	unexpected     = "unexpected"
	corrupt        = "corrupt"
	falseSettled   = "false settle"
	refused        = "refused by the broker"
	misreported    = "misreported"
	overtried      = "overtried"
	duplicated     = "unexplained duplicate"
	disordered     = "out of order"
	tooManyUnknown = "too many unknown outcomes"
	unaccounted    = "unaccounted"
	late           = "late"
	stoppedEarly   = "stopped early"
	leaked         = "leaked"
)

// findings are the contradictions of the promises.
type findings struct {
	kinds []string // ordered by first finding
	by    map[string]*finding
}

type finding struct {
	n        int
	examples []string
}

// examples is the number of findings of a kind that are reported in full.
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

// seconds formats a time of the history.
func seconds(at int64) string {
	if at == never {
		return "never"
	}
	return fmt.Sprintf("%.3f s", time.Duration(at).Seconds())
}
