package publishing

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

// heapMiB returns the size of the reachable heap.
func heapMiB() int {
	runtime.GC()
	runtime.GC() // sync.Pool keeps things for one more round
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc >> 20) //nolint:gosec // a few
}

// The producer does not keep a confirmed message, with a generated or a caller's id, even if the Receipt is kept.
func TestS84FinishedMessagesAreNotKept(t *testing.T) {
	const size, bound = 1 << 20, 8 << 20
	queue := kit.QuorumQueue(t, amqp.Table{"x-max-length": int32(1)}) // RabbitMQ need not keep them either
	ctx := kit.Within(t, 60*time.Second)
	for name, c := range map[string]struct {
		cfg     producer.Config
		key     string
		publish func(*producer.Producer, string, amqp.Publishing) (*producer.Receipt, error)
		id      func(i int) string
		n       int
	}{
		"ids of the caller": {key: queue, publish: asynchronous, id: func(i int) string { return fmt.Sprint(i) }, n: 300},
		"the same id":       {key: queue, publish: asynchronous, id: func(int) string { return "same" }, n: 40},
		"own ids":           {key: queue, publish: asynchronous, id: func(int) string { return "" }, n: 40},
		"published again":   {key: queue, publish: again, id: func(i int) string { return fmt.Sprint(i) }, n: 40},
		"returned":          {key: kit.Unique("nowhere"), publish: asynchronous, id: func(i int) string { return fmt.Sprint(i) }, n: 40},
		"at most once":      {cfg: producer.Config{NoResend: true, AllowUnroutable: true}, key: queue, publish: asynchronous, id: func(i int) string { return fmt.Sprint(i) }, n: 40},
	} {
		c.cfg.MaxInFlightBytes = bound
		p := kit.NewProducer(t, kit.Connect(t, amqpkit.Config{}), c.cfg)
		before := heapMiB()
		receipts := make([]*producer.Receipt, 0, c.n)
		for i := range c.n {
			body := make([]byte, size)
			body[0], body[1] = byte(i), byte(i>>8)
			r, err := c.publish(p, c.key, amqp.Publishing{MessageId: c.id(i), Headers: amqp.Table{"n": int64(i)}, Body: body})
			if err != nil {
				t.Fatal(err)
			}
			receipts = append(receipts, r)
		}
		for _, r := range receipts {
			var returned *producer.ReturnedError
			if err := r.Wait(ctx); err != nil && (c.key == queue || !errors.As(err, &returned)) {
				t.Fatal(name, err)
			}
		}
		if kept := heapMiB() - before; kept > bound>>20 {
			t.Errorf("%s: %d MiB are kept, and nothing is in flight", name, kept)
		}
		runtime.KeepAlive(receipts)
	}
}

func asynchronous(p *producer.Producer, key string, msg amqp.Publishing) (*producer.Receipt, error) {
	return p.PublishAsync(context.Background(), "", key, msg)
}

func again(p *producer.Producer, key string, msg amqp.Publishing) (*producer.Receipt, error) {
	return p.RepublishAsync(context.Background(), "", key, msg)
}
