package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/topology"
)

// A system is the broker, the proxies before it and the two databases.
type system struct {
	broker     *rabbit.Broker
	forRelays  *amqptest.Proxy
	forOthers  *amqptest.Proxy
	a, b       *database
	exchange   string
	queues     []string
	monitoring string // a queue with copies of all messages
}

const queueCount = 4

// startSystem starts the parts. After an error the caller closes the returned system, too.
func startSystem(ctx context.Context, kind, name string, items int, progress io.Writer) (s *system, err error) {
	s = &system{exchange: name, monitoring: name + ".monitoring"}
	for i := range queueCount {
		s.queues = append(s.queues, fmt.Sprintf("%s.%d", name, i))
	}
	if s.a, err = startDatabase(ctx, kind, "soak_a"); err != nil {
		return s, err
	}
	if s.b, err = startDatabase(ctx, kind, "soak_b"); err != nil {
		return s, err
	}
	if err := errors.Join(s.a.createA(ctx, items), s.b.createB(ctx)); err != nil {
		return s, err
	}
	if s.broker, err = rabbit.Start(ctx, rabbit.Options{Progress: progress}); err != nil {
		return s, err
	}
	for _, p := range []**amqptest.Proxy{&s.forRelays, &s.forOthers} {
		if *p, err = amqptest.NewProxy(s.broker.URL()); err != nil {
			return s, err
		}
	}
	if err := s.declare(ctx); err != nil {
		return s, err
	}
	if s.broker.Owned() {
		err = s.broker.Flush(ctx) // otherwise a killed broker may forget new queues
	}
	return s, err
}

// declare declares the queues of the consumers, and the queue for monitoring.
func (s *system) declare(ctx context.Context) error {
	t := topology.Topology{
		Exchanges: []topology.Exchange{{Name: s.exchange, Type: topology.Direct}},
		Queues:    []topology.Queue{{Name: s.monitoring, Type: topology.Classic}},
	}
	for _, q := range s.queues {
		// Each kill of a consumer counts as a failed delivery of its messages.
		t.Queues = append(t.Queues, topology.Queue{Name: q, SingleActiveConsumer: true, DeliveryLimit: new(topology.Unlimited)})
		for _, target := range []string{q, s.monitoring} {
			t.Bindings = append(t.Bindings, topology.Binding{Source: s.exchange, Queue: target, Key: q})
		}
	}
	return s.direct(func(conn *amqp.Connection, _ *amqp.Channel) error { return t.Declare(ctx, conn) })
}

// direct calls do with a connection that bypasses the proxies.
func (s *system) direct(do func(*amqp.Connection, *amqp.Channel) error) error {
	conn, err := amqp.DialConfig(s.broker.URL(), amqp.Config{Dial: amqp.DefaultDial(10 * time.Second)})
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	return do(conn, ch)
}

// waiting returns the number of messages in the queues that have not been delivered.
func (s *system) waiting() (n int, err error) {
	err = s.direct(func(_ *amqp.Connection, ch *amqp.Channel) error {
		for _, name := range s.queues {
			q, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
			if err != nil {
				return err
			}
			n += q.Messages
		}
		return nil
	})
	return n, err
}

// close removes everything.
func (s *system) close() error {
	var errs []error
	for _, p := range []*amqptest.Proxy{s.forRelays, s.forOthers} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	if s.broker != nil {
		if !s.broker.Owned() {
			errs = append(errs, s.direct(s.remove))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		errs = append(errs, s.broker.Close(ctx))
	}
	for _, d := range []*database{s.a, s.b} {
		if d != nil {
			errs = append(errs, d.stop())
		}
	}
	return errors.Join(errs...)
}

func (s *system) remove(_ *amqp.Connection, ch *amqp.Channel) error {
	var errs []error
	for _, q := range append(s.queues, s.monitoring) {
		_, err := ch.QueueDelete(q, false, false, false)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, ch.ExchangeDelete(s.exchange, false, false))...)
}
