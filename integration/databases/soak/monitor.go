package soak

import (
	"errors"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A monitor counts copies of messages while no fault disturbs the services. The consumers cannot do that, because their
// inbox removes duplicates.
type monitor struct {
	conn *amqp.Connection
	done sync.WaitGroup

	seen     map[string]bool
	repeated int
	messages atomic.Int64 // the size of seen
}

// startMonitor starts to count.
func startMonitor(s *system) (*monitor, error) {
	conn, err := amqp.Dial(s.broker.URL())
	if err != nil {
		return nil, err
	}
	m := &monitor{conn: conn, seen: map[string]bool{}}
	ch, err := conn.Channel()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	ds, err := ch.Consume(s.monitoring, "", true, false, false, false, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	m.done.Go(func() {
		for d := range ds {
			if m.seen[d.MessageId] {
				m.repeated++
			}
			m.seen[d.MessageId] = true
			m.messages.Store(int64(len(m.seen)))
		}
	})
	return m, nil
}

// stop stops counting, removes the queue, and returns the number of messages and of copies.
func (m *monitor) stop(s *system) (messages, repeated int, err error) {
	err = errors.Join(m.conn.Close(), s.direct(func(_ *amqp.Connection, ch *amqp.Channel) error {
		_, err := ch.QueueDelete(s.monitoring, false, false, false)
		return err
	}))
	m.done.Wait()
	return len(m.seen), m.repeated, err
}
