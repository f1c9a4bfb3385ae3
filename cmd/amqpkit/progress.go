package main

import (
	"fmt"
	"io"
	"time"
)

// A progress shows how far a long operation is: on a terminal one line that changes, elsewhere a line every ten seconds.
type progress struct {
	w        io.Writer
	terminal bool
	state    func() string
	stop     chan struct{}
	done     chan struct{}
}

// progress begins to show the result of state, which must be safe for concurrent use.
func (a *app) progress(state func() string) *progress {
	p := &progress{w: a.err, terminal: isTerminal(a.err), state: state, stop: make(chan struct{}), done: make(chan struct{})}
	interval := a.interval
	switch {
	case interval > 0:
	case p.terminal:
		interval = 200 * time.Millisecond
	default:
		interval = 10 * time.Second
	}
	go p.run(interval)
	return p
}

func (p *progress) run(interval time.Duration) {
	defer close(p.done)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	shown := false
	for {
		select {
		case <-p.stop:
			if shown && p.terminal {
				fmt.Fprint(p.w, "\r\x1b[K")
			}
			return
		case <-tick.C:
			if p.terminal {
				fmt.Fprintf(p.w, "\r\x1b[K%s", p.state())
			} else {
				fmt.Fprintln(p.w, p.state())
			}
			shown = true
		}
	}
}

// end removes the line from the terminal. It may be called more than once.
func (p *progress) end() {
	select {
	case <-p.done:
	default:
		close(p.stop)
		<-p.done
	}
}

// clear removes the line from the terminal, so that a report does not follow it on the same line.
func (p *progress) clear() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
