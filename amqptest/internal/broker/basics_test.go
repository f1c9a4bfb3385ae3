package broker

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestMessagesAreDeliveredInOrderAndSettled(t *testing.T) {
	for _, kind := range []string{kindClassic, kindQuorum} {
		t.Run(kind, func(t *testing.T) {
			s := newStage(t)
			s.declare("q", amqp.Table{"x-queue-type": kind})
			s.send("q", "a", "b", "c")
			s.expectReady("q", "a", "b", "c")

			ds := s.consume(s.channel(), "q", nil)
			for _, want := range []string{"a", "b", "c"} {
				d := s.next(ds)
				if string(d.Body) != want || d.Redelivered || d.RoutingKey != "q" {
					t.Fatalf("%+v, want %s", d, want)
				}
				s.must(d.Ack(false))
			}
			s.await("all settled", s.Idle)
			if q, _ := s.Queue("/", "q"); q.Ready+q.Unacked != 0 || q.Consumers != 1 || q.Type != kind {
				t.Errorf("%+v", q)
			}
		})
	}
}
