package soak

import (
	"cmp"
	"slices"
	"time"
)

// judgeTimes holds how long things took against what was promised.
func (s *state) judgeTimes(f *findings, r *Result) {
	for _, m := range s.order {
		if over := m.resolved - m.Deadline; m.outcomes == 1 && over > tolerance+s.timerDelay(m.Deadline, m.resolved) {
			f.add(late, "the publisher of %s, told %v after the end of its ctx, at %s", m.ID, time.Duration(over), seconds(m.resolved))
		}
	}
	for _, c := range s.calls {
		until := max(c.v.Deadline, c.v.Began) // a call may begin when its ctx is over
		if over := c.at - until; over > tolerance+s.timerDelay(until, c.at) {
			f.add(late, "%s %s, %v after the end of its ctx, at %s", c.v.What, c.v.Who, time.Duration(over), seconds(c.at))
		}
		if c.v.Unasked {
			f.add(stoppedEarly, "%s %s, at %s: %s", c.v.What, c.v.Who, seconds(c.at), c.v.Err)
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

// stall is by how much timers were late in the seconds around a span of time: what the machine withheld from everyone
// is nobody's fault. On a machine that has nothing else to do it is next to nothing.
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

// judgeResumption checks that a client publishes and consumes again soon after a fault that concerned it. If other
// faults that concern it begin before it does, they have to be over too.
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
		calm, next := x.to, after(side.times, x.to)
		for moved := true; moved; {
			moved = false
			for _, other := range s.faults {
				if other.concerns(client) && other.from < min(next, calm+bound) && other.to > calm {
					calm, moved = other.to, true
				}
			}
			next = after(side.times, calm)
		}
		if calm != never && next-calm > bound+s.timerDelay(calm, next) {
			f.add(late, "the first %s of client %s, at %s, after fault %d (%s), over at %s", side.what, client, seconds(next), x.N, x.Kind, seconds(calm))
		}
	}
}

// after returns the first of the times that is not before at.
func after(times []int64, at int64) int64 {
	if i, _ := slices.BinarySearch(times, at); i < len(times) {
		return times[i]
	}
	return never
}

// judgeDetection checks that clients gave up every link on which they heard nothing for twice the heartbeat. In another
// fault, which may let something through late, they could have.
func (s *state) judgeDetection(f *findings, x *fault) {
	bound := x.from + 2*s.run.Heartbeat + tolerance
	for _, client := range x.Clients {
		if !s.undisturbed(x, client, bound) {
			continue
		}
		for _, l := range s.byClient[client] {
			if l.opened < x.from && l.lost > bound+s.timerDelay(x.from, bound) && x.to > bound {
				f.add(late, "client %s kept link %d/%d until %s, dead since %s (fault %d, %s)", client, l.id.node, l.id.link, seconds(l.lost), seconds(x.from), x.N, x.Kind)
			}
		}
	}
}

// noticed is how long after the end of a fault a proxy may notice a loss that it brought.
const noticeTime = int64(100 * time.Millisecond)

// The kinds of faults that close connections by force and leave the broker as it is.
var forced = []string{Close, Cut}

// measure takes the times to recover. A forced close counts if nothing else disturbed the client until it was over.
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

// recoveries adds the time from the loss of a link of the chosen kind to the client's next traffic of that kind.
func (s *state) recoveries(to []int64, x *fault, client string, times []int64, chosen func(*link) bool) []int64 {
	gone := int64(never)
	for _, l := range s.byClient[client] {
		if chosen(l) && l.opened < x.from && l.closed >= x.from && l.closed <= x.to+noticeTime {
			gone = min(gone, l.closed)
		}
	}
	if gone == never {
		return to
	}
	next := after(times, gone+1) // with the close may have come what was sent before it
	if !s.undisturbed(x, client, next) {
		return to
	}
	return append(to, next-gone)
}

// alone reports whether no other fault concerned the client between the beginning of this one and a later moment.
func (s *state) undisturbed(x *fault, client string, until int64) bool {
	return until != never && !slices.ContainsFunc(s.faults, func(other *fault) bool {
		return other != x && other.concerns(client) && other.from < until && other.to > x.from
	})
}

// quantile returns the q-quantile in milliseconds, 0 if there is nothing.
func quantile(of []int64, q float64) float64 {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return float64(sorted[int(q*float64(len(sorted)-1)+0.5)]) / float64(time.Millisecond)
}
