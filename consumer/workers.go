package consumer

import (
	"sync/atomic"
	"time"
)

// workers run the handler. They belong to the Run, not to a session: a slow handler of a lost session neither delays
// the next session nor increases the number of concurrent handlers.
type workers struct {
	n       int
	handler Handler
	state   *runState

	exited     chan struct{} // receives a value for each worker that exited
	busy       atomic.Int64  // running handlers
	unfinished atomic.Int64  // handlers that were running when the drain timeout elapsed
}

func (w *workers) start(n int, handler Handler, state *runState) {
	w.n, w.handler, w.state, w.exited = n, handler, state, make(chan struct{}, n)
	for range n {
		go w.work()
	}
}

// interrupted records the number of handlers that are running when the drain timeout elapses.
func (w *workers) interrupted() { w.unfinished.Store(w.busy.Load()) }

// work runs handlers until the dispatcher is closed.
func (w *workers) work() {
	var now job
	ended := false
	defer func() {
		if ended {
			w.exited <- struct{}{}
			return
		}
		// runtime.Goexit, such as t.FailNow in a test's handler, ended this goroutine; a new one replaces it.
		go w.work()
		w.done(now, outcome{how: fail, err: errGoexit})
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

// done passes a handler's result to the session of its delivery.
func (w *workers) done(j job, v outcome) {
	w.busy.Add(-1)
	if res := (result{j, v}); !w.state.dispatcher.done(res) {
		res.logUnsent(w.state.ctx(), w.state.log)
	}
}

// wait stops the workers and waits for them until late is closed. It returns the number of handlers that are still
// running then.
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
