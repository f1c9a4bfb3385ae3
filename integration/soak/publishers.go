package soak

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/producer"
)

// A publisher is a goroutine that publishes. It also owns the goroutines that wait for its receipts.
type publisher struct {
	w      *workload
	name   string // prefix of its message IDs
	client string
	to     *producer.Producer
	once   bool // the producer does not resend
	rng    *rand.Rand
	n      int
	slots  chan struct{} // limits the pending receipts; one token for each
	wait   sync.WaitGroup
}

// An outgoing is a message with its Publish record.
type outgoing struct {
	producer.Message
	Publish
}

func (w *workload) newPublisher(name, client string, to *producer.Producer) *publisher {
	seed := sha256.Sum256([]byte(fmt.Sprintf("%d %s", w.seed, name)))
	return &publisher{w: w, name: name, client: client, to: to, rng: rand.New(rand.NewChaCha8(seed)), slots: make(chan struct{}, maxInFlight/2)}
}

// start runs step perSecond times per second until publishers must stop.
func (p *publisher) start(perSecond float64, step func()) {
	p.w.publishers.Go(func() {
		defer p.wait.Wait()
		pace := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
		defer pace.Stop()
		for {
			select {
			case <-pace.C:
				step()
			case <-p.w.publishing.Done():
				return
			}
		}
	})
}

// ctx returns the ctx of one publish. Its deadline is mostly later than the end of any fault, sometimes earlier, and in
// two percent of the cases too short for most publishes (hasty).
func (p *publisher) ctx() (ctx context.Context, cancel context.CancelFunc, hasty bool) {
	limit := p.w.publishTimeout
	switch x := p.rng.IntN(100); {
	case x < 2:
		limit, hasty = time.Duration(1+p.rng.IntN(3000))*time.Microsecond, true
	case x < 10:
		limit = time.Second
	case x < 20:
		limit = 5 * time.Second
	}
	ctx, cancel = context.WithTimeout(context.Background(), limit)
	return ctx, cancel, hasty
}

// message returns a new message for a route. Its body starts with its ID.
func (p *publisher) message(ctx context.Context, route string) *outgoing {
	p.n++
	o := &outgoing{Publish: Publish{ID: fmt.Sprintf("%s-%d", p.name, p.n), Client: p.client, Route: route, Once: p.once}}
	deadline, _ := ctx.Deadline()
	o.Deadline = p.w.h.At(deadline)
	size := 20 + p.rng.IntN(500)
	if p.rng.IntN(200) == 0 {
		size = 50_000 // more than one read buffer
	}
	o.Publishing = amqp.Publishing{MessageId: o.ID, Body: []byte(o.ID + "\n" + strings.Repeat("x", size))}
	o.Sum = sum(o.Publishing.Body)
	q := p.w.q
	o.Exchange, o.Key = q.name("soak"), route
	switch route {
	case toWork:
		o.Key = q.work(p.rng.IntN(workQueues))
	case toOrder, toFull:
		o.Exchange, o.Key = "", q.name(route)
	case toSide:
		o.Doomed = true
	case toRetry:
		x := failurePlanOf(o.ID)
		o.Fails, o.Why, o.After = x.failures, x.reason, int64(x.after)
	case invalid:
		p.makeInvalid(o)
	}
	return o
}

// makeInvalid makes a message invalid in a way for which the broker would close the channel or the connection.
func (p *publisher) makeInvalid(o *outgoing) {
	switch p.rng.IntN(4) {
	case 0:
		o.Key = strings.Repeat("k", 256)
	case 1:
		o.Publishing.Expiration = "-1"
	case 2:
		o.Publishing.Headers = amqp.Table{"n": uint64(1)}
	case 3:
		o.Exchange += "-missing"
	}
}

func sum(body []byte) string {
	s := sha256.Sum256(body)
	return hex.EncodeToString(s[:8])
}

// publish publishes and waits for the outcome.
func (p *publisher) publish(ctx context.Context, o *outgoing) {
	p.w.h.Put(Record{Publish: &o.Publish})
	p.w.recordOutcome(o, "", p.to.Publish(ctx, o.Exchange, o.Key, o.Publishing))
}

// publishAsync publishes without waiting and calls then after the outcome. Every second message gets its message id
// from the producer.
func (p *publisher) publishAsync(ctx context.Context, o *outgoing, then func()) {
	if p.n%2 == 0 {
		o.Publishing.MessageId = ""
	}
	p.w.h.Put(Record{Publish: &o.Publish})
	r, err := p.to.PublishAsync(ctx, o.Exchange, o.Key, o.Publishing)
	if err != nil {
		p.w.recordOutcome(o, "", err)
		then()
		return
	}
	p.wait.Go(func() {
		<-r.Done()
		p.w.recordOutcome(o, r.MessageID(), r.Wait(context.Background()))
		then()
	})
}

// publishAll publishes a batch.
func (p *publisher) publishAll(ctx context.Context, os []*outgoing) {
	msgs := make([]producer.Message, len(os))
	for i, o := range os {
		o.Batch = true
		p.w.h.Put(Record{Publish: &o.Publish})
		msgs[i] = o.Message
	}
	for i, err := range p.to.PublishAll(ctx, msgs) {
		p.w.recordOutcome(os[i], "", err)
	}
}

// recordOutcome records the outcome of a message.
func (w *workload) recordOutcome(o *outgoing, messageID string, err error) {
	out := &Outcome{ID: o.ID, What: outcomeOf(err)}
	if messageID != o.ID {
		out.MessageID = messageID
	}
	if err != nil {
		out.Err = err.Error()
		out.Blocked = errors.Is(err, amqperr.ErrBlocked)
	} else {
		w.confirmed.Add(1)
	}
	w.h.Put(Record{Outcome: out})
}

func outcomeOf(err error) string {
	var returned *producer.ReturnedError
	switch {
	case err == nil:
		return Confirmed
	case errors.Is(err, producer.ErrUnconfirmed):
		return Unconfirmed
	case errors.Is(err, producer.ErrNotPublished):
		return NotPublished
	case errors.Is(err, producer.ErrNacked):
		return Nacked
	case errors.As(err, &returned):
		return Returned
	}
	return "unknown error"
}

// publish starts all publishers. Most of their rates are fractions of the target rate.
func (w *workload) publish() error {
	for _, client := range []string{alice, bob} {
		to, err := w.newProducer(client, producer.Config{})
		if err != nil {
			return err
		}
		for i := range 6 {
			p := w.newPublisher(fmt.Sprintf("%sp%d", client, i), client, to)
			p.start(0.02*float64(w.rate), func() { p.publishOne(toWork) })
		}
		p := w.newPublisher(client+"async", client, to)
		p.start(0.25*float64(w.rate), func() { p.publishOneAsync(toWork) })
		failing := w.newPublisher(client+"retry", client, to)
		failing.start(0.02*float64(w.rate), func() { failing.publishOneAsync(toRetry) })
		batches := w.newPublisher(client+"batch", client, to)
		batches.start(0.005*float64(w.rate), batches.publishBatch)
		if client == alice {
			o := w.newPublisher("order", client, to)
			o.start(0.02*float64(w.rate), o.publishOrdered)
		}
	}
	return w.publishEdgeCases()
}

// publishEdgeCases starts the publishers whose messages are rarely confirmed, the publisher without resending, and the
// visitor.
func (w *workload) publishEdgeCases() error {
	to, err := w.newProducer(carol, producer.Config{})
	if err != nil {
		return err
	}
	for route, perSecond := range map[string]float64{toFull: 40, toSide: 20, toNowhere: 10, invalid: 5} {
		p := w.newPublisher("c"+route, carol, to)
		p.start(perSecond, func() { p.publishOne(route) })
	}
	once, err := w.newProducer(carol, producer.Config{NoResend: true})
	if err != nil {
		return err
	}
	p := w.newPublisher("once", carol, once)
	p.once = true
	p.start(0.06*float64(w.rate), func() { p.publishOneAsync(toWork) })
	v := w.newPublisher("visit", visitor, nil)
	v.start(2, func() {
		if err := w.visit(v); err != nil {
			w.logger.Error("soak: visitor failed", "error", err)
		}
	})
	return nil
}

func (p *publisher) publishOne(route string) {
	ctx, cancel, hasty := p.ctx()
	defer cancel()
	o := p.message(ctx, route)
	o.Hasty = hasty
	p.publish(ctx, o)
}

func (p *publisher) publishOneAsync(route string) {
	select {
	case p.slots <- struct{}{}:
	default:
		return // all slots are in use
	}
	ctx, cancel, hasty := p.ctx()
	o := p.message(ctx, route)
	o.Hasty = hasty
	p.publishAsync(ctx, o, func() {
		cancel()
		<-p.slots
	})
}

// publishBatch publishes a batch of twenty messages.
func (p *publisher) publishBatch() {
	ctx, cancel, hasty := p.ctx()
	defer cancel()
	os := make([]*outgoing, 20)
	for i := range os {
		os[i] = p.message(ctx, toWork)
		os[i].Hasty = hasty
	}
	p.publishAll(ctx, os)
}

// publishOrdered publishes the next message of the sequence. A failed publish leaves a gap.
func (p *publisher) publishOrdered() {
	ctx, cancel := context.WithTimeout(context.Background(), p.w.publishTimeout)
	defer cancel()
	o := p.message(ctx, toOrder)
	o.Order, o.Seq = p.name, p.n
	p.publish(ctx, o)
}
