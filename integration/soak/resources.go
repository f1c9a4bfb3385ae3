package soak

// judgeResources compares the resources after the last client closed with the resources before the first one connected.
func (s *state) judgeResources(f *findings, r *Result) {
	var before, after *Sample
	var during []uint64
	for _, x := range s.samples {
		switch x.v.When {
		case "before":
			before = &x.v
		case "after":
			after = &x.v
		default:
			during = append(during, x.v.Heap)
		}
	}
	if before == nil || after == nil {
		return
	}
	r.GoroutinesLeaked = max(0, after.Goroutines-before.Goroutines)
	r.SocketsLeaked = max(0, after.Sockets-before.Sockets)
	if r.GoroutinesLeaked > 0 || r.SocketsLeaked > 0 || after.Connections > 0 {
		f.add(leaked, "%d goroutines, %d sockets, %d connections at the broker", r.GoroutinesLeaked, r.SocketsLeaked, after.Connections)
	}
	if third := len(during) / 3; s.run.Duration >= int64(minHeapDuration) && third > 0 {
		first, last := mean(during[:third]), mean(during[len(during)-third:])
		if last > first+heapGrowth {
			f.add(leaked, "%.0f MB of heap in the last third of the run, %.0f MB in the first third", last/1e6, first/1e6)
		}
	}
}

func mean(of []uint64) float64 {
	sum := 0.0
	for _, x := range of {
		sum += float64(x)
	}
	return sum / float64(len(of))
}
