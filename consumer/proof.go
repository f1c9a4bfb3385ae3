package consumer

import "time"

// If no further deliveries prove the settlements, proof asks the broker: proofEvery after the last settlement, and in
// slow traffic (up to proofMost settlements in that time) once a second. When the broker has read the settlements and
// the queue has answered, the queue gets another proofEvery to apply them.
const (
	proofEvery = 500 * time.Millisecond
	proofMost  = 32
	proofRare  = 30 * time.Second // the interval grows to this while the queue does not answer
)

// A proof confirms settlements that are in doubt. In slow traffic it makes one round trip a second, at most one per
// settlement. In fast traffic it makes none, because later deliveries prove all settlements but the last prefetch. It
// stops when everything is proven.
type proof struct {
	timer *time.Timer
	armed bool
	every time.Duration
	seen  int // settlements sent when the timer last fired
	read  int // settlements that the broker had read when the queue last answered
	asked time.Time
}

// start starts the proof of settlements that were just sent.
func (p *proof) start() {
	if !p.armed {
		p.armed, p.every = true, proofEvery
		p.timer.Reset(proofEvery)
	}
}

// step runs when the timer has fired. ask reports whether the queue answers. An error means that the channel was
// closed.
func (p *proof) step(l *ledger, ask func() (bool, error)) error {
	l.taken = max(l.taken, p.read)
	if p.armed = l.inDoubt() > 0; !p.armed {
		return nil
	}
	sent, now := l.settled-p.seen, time.Now()
	if sent > 0 {
		p.every = proofEvery
	}
	if sent == 0 || sent <= proofMost && now.Sub(p.asked) >= 2*proofEvery {
		p.asked = now
		there, err := ask()
		if err != nil {
			return err
		}
		if there {
			p.read = l.settled
		} else {
			p.every = min(2*p.every, proofRare)
		}
	}
	p.seen = l.settled
	p.timer.Reset(p.every)
	return nil
}
