package conformance

import (
	"fmt"
	"regexp"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// serverNamed matches the names that the broker generates for queues.
var serverNamed = regexp.MustCompile(`amq\.gen-[\w-]{22}`)

// Counts writes the counts of queue.declare-ok. It fails the test if err is not nil.
func (s *Script) Counts(q amqp.Queue, err error) {
	s.tb.Helper()
	s.Must(err)
	s.Note("%s: %s, %s", q.Name, number(q.Messages, "message"), number(q.Consumers, "consumer"))
}

// Await waits until a queue has these numbers of ready messages and consumers, then writes its counts. A broker may need
// a moment to apply settlements and cancellations.
func (s *Script) Await(queue string, messages, consumers int) {
	s.tb.Helper()
	conn := s.Dial()
	defer conn.Close()
	ch, err := conn.Channel()
	s.Must(err)
	for end := time.Now().Add(eventTimeout); ; time.Sleep(time.Millisecond) {
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
