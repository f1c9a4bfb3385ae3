package retry

import (
	"fmt"
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"github.com/amqpkit/amqpkit/consumer"
)

const (
	maxOwed = 1024
	owedFor = 4 * lastHold // from a failed hop to the message's next delivery
)

// owed are hops that failed, by the message that is to make them, so that its handler is not called once more
// when it comes again.
type owed struct {
	mu   sync.Mutex
	hops map[mark]debt
}

type debt struct {
	hop
	since time.Time
}

// add remembers a hop. Beyond a bound any other is forgotten: that costs one more call of its handler.
func (o *owed) add(d *consumer.Delivery, h hop) {
	who := markOf(d)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hops == nil {
		o.hops = map[mark]debt{}
	}
	if _, known := o.hops[who]; !known && len(o.hops) >= maxOwed {
		for any := range o.hops {
			delete(o.hops, any)
			break
		}
	}
	o.hops[who] = debt{h, time.Now()}
}

// take returns what a delivery owes, and forgets it. An old debt is somebody else's: the message went to another process, and
// what comes now is one like it.
func (o *owed) take(d *consumer.Delivery, now time.Time) (hop, bool) {
	if !d.Redelivered {
		return hop{}, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.hops) == 0 {
		return hop{}, false
	}
	who := markOf(d)
	h, ok := o.hops[who]
	delete(o.hops, who)
	return h.hop, ok && now.Sub(h.since) < owedFor
}

// A mark is a hash of all that a message can be known again by. Two that are the same in all of this can stand for
// each other.
type mark uint64

var seed = maphash.MakeSeed()

func markOf(d *consumer.Delivery) mark {
	headers := maps.Clone(d.Headers)
	maps.DeleteFunc(headers, func(name string, _ any) bool { return counted(name) })
	var h maphash.Hash
	h.SetSeed(seed)
	for _, s := range []string{
		d.MessageId, d.Exchange, d.RoutingKey, d.ContentType, d.ContentEncoding, d.CorrelationId, d.ReplyTo, d.Type, d.AppId,
		d.Timestamp.String(), fmt.Sprint(map[string]any(headers)),
	} {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0)
	}
	_, _ = h.Write(d.Body)
	return mark(h.Sum64())
}
