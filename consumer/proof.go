package consumer

import "time"

// Without further deliveries settlements are proven by asking: proofEvery after the last one, and in slow traffic, up to
// proofMost in that time, once a second. Once the broker has read them and the queue has answered, they get another
// proofEvery to be applied.
const (
	proofEvery = 500 * time.Millisecond
	proofMost  = 32
	proofRare  = 30 * time.Second // the interval grows to this while the queue does not answer
)

// A proof has settlements stop being in doubt. It costs a round trip a second in slow traffic and at most one for each
// settlement, none in quick traffic, whose deliveries prove all but the last prefetch, and none once everything is
// proven.
type proof struct {
	timer *time.Timer
	armed bool
	every time.Duration
	seen  int // settlements sent when the timer fired last
	read  int // settlements that the broker had read when the queue answered last
	asked time.Time
}

// start starts the proof of settlements that were just sent.
func (p *proof) start() {
	if !p.armed {
		p.armed, p.every = true, proofEvery
		p.timer.Reset(proofEvery)
	}
}

// step takes the next step when the timer has fired. ask reports whether the queue answers. Its error means that the channel
// was closed.
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
