package consuming

import (
	"errors"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestS93AQueueInExclusiveUseIsNotAMatterOfPermissions(t *testing.T) {
	t.Parallel()
	b := kit.NewConsumerBench(t)
	queue := b.Name()
	b.Declare(queue, "classic", nil)
	first := b.Start(consumer.Config{Queue: queue, Exclusive: true}, kit.Bodies(make(chan string, 1)))
	second := b.Begin(consumer.Config{Queue: queue, Exclusive: true}, kit.Bodies(make(chan string, 1)))
	var failed *consumer.SubscribeError
	kit.WaitFor(t, func() bool { return errors.As(second.Err(), &failed) })
	if s := second.Err().Error(); strings.Contains(s, "permission") || !strings.Contains(s, "another consumer has exclusive use") {
		t.Errorf("Err = %s", s)
	}
	if err := second.Stop(); err == nil || !strings.Contains(err.Error(), "exclusive use") {
		t.Errorf("Run = %v, want why it was never subscribed", err)
	}
	if err := b.Conn.Ready(b.Ctx()); err != nil { // the queue is there
		t.Error(err)
	}
	first.StopClean()
}
