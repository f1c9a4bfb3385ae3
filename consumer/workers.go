package consumer

import (
	"sync/atomic"
	"time"
)

// workers run the handler. They live as long as their Run, longer than a session: a slow handler of a lost session neither
// delays the next one nor adds to the handlers that run at once.
type workers struct {
	n       int
	handler Handler
	state   *runState

	exited     chan struct{} // one for each worker that ended
	busy       atomic.Int64  // handlers that run
	unfinished atomic.Int64  // handlers that ran when the drain time was over
}

func (w *workers) start(n int, handler Handler, state *runState) {
	w.n, w.handler, w.state, w.exited = n, handler, state, make(chan struct{}, n)
	for range n {
		go w.work()
	}
}

// interrupted records how many handlers run at the end of the drain time.
func (w *workers) interrupted() { w.unfinished.Store(w.busy.Load()) }

// work runs handlers until there are no more jobs.
func (w *workers) work() {
	var now job
	ended := false
	defer func() {
		if ended {
			w.exited <- struct{}{}
			return
		}
		// runtime.Goexit (t.FailNow in a test's handler) ends this goroutine, not the
		// worker.
		go w.work()
		w.done(now, verdict{how: fail, err: errGoexit})
	}()
	for {
		var ok bool
		if now, ok = w.state.dispatcher.take(); !ok {
			break
		}
		w.busy.Add(1)
		if !w.state.dispatcher.ordered {
			w.done(now, handle(w.state.shutdown.handlers, w.handler, now.d))
			continue
		}
		began := time.Now()
		v := handle(w.state.shutdown.handlers, w.handler, now.d)
		v.took = time.Since(began)
		w.done(now, v)
	}
	ended = true
}

// done hands a handler's result to the session its delivery came from.
func (w *workers) done(j job, v verdict) {
	w.busy.Add(-1)
	if res := (result{j, v}); !w.state.dispatcher.done(res) {
		res.logUnsent(w.state.ctx(), w.state.log)
	}
}

// wait ends the workers and waits for them until late is closed. It returns how many handlers still run then.
func (w *workers) wait(late <-chan struct{}) (running int) {
	w.state.dispatcher.close()
	for left := w.n; left > 0 && running == 0; {
		select {
		case <-w.exited:
			left--
		case <-late:
			late, running = nil, int(w.busy.Load())
		}
	}
	return running
}
