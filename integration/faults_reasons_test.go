package integration

import (
	"errors"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/consumer"
)

func TestS93AQueueInExclusiveUseIsNotAMatterOfPermissions(t *testing.T) {
	t.Parallel()
	b := newConsumerBench(t)
	queue := b.name()
	b.declare(queue, "classic", nil)
	first := b.start(consumer.Config{Queue: queue, Exclusive: true}, bodies(make(chan string, 1)))
	second := b.begin(consumer.Config{Queue: queue, Exclusive: true}, bodies(make(chan string, 1)))
	var failed *consumer.SubscribeError
	waitFor(t, func() bool { return errors.As(second.Err(), &failed) })
	if s := second.Err().Error(); strings.Contains(s, "permission") || !strings.Contains(s, "another consumer has exclusive use") {
		t.Errorf("Err = %s", s)
	}
	if err := second.stop(); err == nil || !strings.Contains(err.Error(), "exclusive use") {
		t.Errorf("Run = %v, want why it was never subscribed", err)
	}
	if err := b.conn.Ready(b.ctx()); err != nil { // the queue is there
		t.Error(err)
	}
	first.stopClean()
}
