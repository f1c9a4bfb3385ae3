package conformance

import (
	"fmt"
	"regexp"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// serverNamed is the name that a broker gives a queue.
var serverNamed = regexp.MustCompile(`amq\.gen-[\w-]{22}`)

// Counts writes what a queue.declare that must succeed was answered with.
func (s *Script) Counts(q amqp.Queue, err error) {
	s.tb.Helper()
	s.Must(err)
	s.Note("%s: %s, %s", q.Name, number(q.Messages, "message"), number(q.Consumers, "consumer"))
}

// Await is Counts as soon as a queue has so many messages ready and so many consumers: what a client ends takes a moment.
func (s *Script) Await(queue string, messages, consumers int) {
	s.tb.Helper()
	conn := s.Dial()
	defer conn.Close()
	ch, err := conn.Channel()
	s.Must(err)
	for end := time.Now().Add(soon); ; time.Sleep(time.Millisecond) {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		if err != nil || q.Messages == messages && q.Consumers == consumers || time.Now().After(end) {
			s.Counts(q, err)
			return
		}
	}
}

func number(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
