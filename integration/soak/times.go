package soak

import (
	"cmp"
	"slices"
	"time"
)

// judgeTimes checks the time limits of calls and of the recovery after faults.
func (s *state) judgeTimes(f *findings, r *Result) {
	for _, m := range s.order {
		if over := m.resolved - m.Deadline; m.outcomes == 1 && over > tolerance+s.timerDelay(m.Deadline, m.resolved) {
			f.add(late, "the outcome of %s %v after the deadline of its ctx, at %s", m.ID, time.Duration(over), seconds(m.resolved))
		}
	}
	for _, c := range s.calls {
		until := max(c.v.Deadline, c.v.Began) // a call may start after its deadline
		if over := c.at - until; over > tolerance+s.timerDelay(until, c.at) {
			f.add(late, "%s %s returned %v after the deadline of its ctx, at %s", c.v.What, c.v.Who, time.Duration(over), seconds(c.at))
		}
		if c.v.Unasked {
			f.add(stoppedEarly, "%s %s returned before it was stopped, at %s: %s", c.v.What, c.v.Who, seconds(c.at), c.v.Err)
		}
	}
	for _, x := range s.faults {
		if x.Err == "" && x.to != never {
			r.ByKind[x.Kind]++
			r.Faults++
		}
		for _, client := range x.Clients {
			s.judgeResumption(f, x, client)
		}
		if x.Deaf {
			s.judgeDetection(f, x)
		}
	}
	s.measure(r)
}

// timerDelay returns the total delay of timers in the samples from one time to another. Limits are extended by it,
// because the toolkit cannot run while the machine is overloaded. It is close to zero on an idle machine.
func (s *state) timerDelay(from, to int64) int64 {
	sum := int64(0)
	i, _ := slices.BinarySearchFunc(s.samples, from, func(x timed[Sample], at int64) int { return cmp.Compare(x.at, at) })
	for ; i < len(s.samples); i++ {
		sum += s.samples[i].v.TimerDelay
		if s.samples[i].at >= to {
			break
		}
	}
	return sum
}

// judgeResumption checks that a client publishes and consumes again soon after a fault. If another fault of the client
// starts before its traffic resumes, the limit starts at the end of that fault.
func (s *state) judgeResumption(f *findings, x *fault, client string) {
	if x.to == never {
		return
	}
	c := s.run.Clients[client]
	bound := min(s.run.Reconnect+resumeTime, maxResumeTime)
	for _, side := range []struct {
		what  string
		used  bool
		times []int64
	}{{"confirm", c.Publishes, s.answers[client]}, {"delivery", c.Consumes, s.arrivals[client]}} {
		if !side.used {
			continue
		}
		ended, next := x.to, after(side.times, x.to)
		for extended := true; extended; {
			extended = false
			for _, other := range s.faults {
				if other.concerns(client) && other.from < min(next, ended+bound) && other.to > ended {
					ended, extended = other.to, true
				}
			}
			next = after(side.times, ended)
		}
		if ended != never && next-ended > bound+s.timerDelay(ended, next) {
			f.add(late, "the first %s of client %s at %s, after fault %d (%s) ended at %s", side.what, client, seconds(next), x.N, x.Kind, seconds(ended))
		}
	}
}

// after returns the first time that is not before at, or never.
func after(times []int64, at int64) int64 {
	if i, _ := slices.BinarySearch(times, at); i < len(times) {
		return times[i]
	}
	return never
}

// judgeDetection checks that clients closed every link that was silent for twice the heartbeat. Clients with another
// fault at the same time are ignored, because that fault may deliver delayed frames.
func (s *state) judgeDetection(f *findings, x *fault) {
	bound := x.from + 2*s.run.Heartbeat + tolerance
	for _, client := range x.Clients {
		if !s.undisturbed(x, client, bound) {
			continue
		}
		for _, l := range s.byClient[client] {
			if l.opened < x.from && l.lost > bound+s.timerDelay(x.from, bound) && x.to > bound {
				f.add(late, "client %s kept link %d/%d until %s, silent since %s (fault %d, %s)", client, l.id.node, l.id.link, seconds(l.lost), seconds(x.from), x.N, x.Kind)
			}
		}
	}
}

// noticeTime is how long after the end of a fault a proxy may record a connection that the fault closed.
const noticeTime = int64(100 * time.Millisecond)

// forced are the kinds of faults that close connections while the broker runs.
var forced = []string{Close, Cut}

// measure computes the recovery times. A forced close counts only if no other fault affects the client until it has
// recovered.
func (s *state) measure(r *Result) {
	var confirms, deliveries, outages []int64
	for _, x := range s.faults {
		for _, client := range x.Clients {
			switch {
			case x.to == never:
			case x.Outage:
				for _, times := range [][]int64{s.answers[client], s.arrivals[client]} {
					if next := after(times, x.to); s.undisturbed(x, client, next) {
						outages = append(outages, next-x.to)
					}
				}
			case slices.Contains(forced, x.Kind):
				confirms = s.recoveries(confirms, x, client, s.answers[client], func(l *link) bool { return l.publishes })
				deliveries = s.recoveries(deliveries, x, client, s.arrivals[client], func(l *link) bool { return l.consumes })
			}
		}
	}
	all := slices.Concat(confirms, deliveries)
	r.Recoveries, r.RecoveryP50, r.RecoveryP99 = len(all), quantile(all, 0.5), quantile(all, 0.99)
	r.ConfirmP50, r.ConfirmP99 = quantile(confirms, 0.5), quantile(confirms, 0.99)
	r.DeliveryP50, r.DeliveryP99 = quantile(deliveries, 0.5), quantile(deliveries, 0.99)
	r.Outages, r.OutageP50, r.OutageMax = len(outages), quantile(outages, 0.5), quantile(outages, 1)
}

// recoveries appends the time from the loss of a selected link to the client's next traffic.
func (s *state) recoveries(to []int64, x *fault, client string, times []int64, chosen func(*link) bool) []int64 {
	lostAt := int64(never)
	for _, l := range s.byClient[client] {
		if chosen(l) && l.opened < x.from && l.closed >= x.from && l.closed <= x.to+noticeTime {
			lostAt = min(lostAt, l.closed)
		}
	}
	if lostAt == never {
		return to
	}
	next := after(times, lostAt+1) // skip frames that arrived together with the close
	if !s.undisturbed(x, client, next) {
		return to
	}
	return append(to, next-lostAt)
}

// undisturbed reports whether no other fault affected the client from the start of x until the given time.
func (s *state) undisturbed(x *fault, client string, until int64) bool {
	return until != never && !slices.ContainsFunc(s.faults, func(other *fault) bool {
		return other != x && other.concerns(client) && other.from < until && other.to > x.from
	})
}

// quantile returns the q-quantile in milliseconds, or 0 without values.
func quantile(of []int64, q float64) float64 {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return float64(sorted[int(q*float64(len(sorted)-1)+0.5)]) / float64(time.Millisecond)
}
