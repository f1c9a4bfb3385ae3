package publishing

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
	"github.com/amqpkit/amqpkit/topology"
)

// The error of a message that could not be sent names the reason and the remedy, as Ready does.
func TestS93PublishNamesWhatIsInTheWay(t *testing.T) {
	b := kit.NeedsControl(t)
	queue := kit.QuorumQueue(t, nil)
	limited := func(limit string) amqpkit.Config {
		return amqpkit.Config{URLs: []string{restricted(t, b, ".*", limits(limit, 0))}}
	}
	conflict := topology.Topology{Queues: []topology.Queue{{Name: queue, Type: topology.Classic}}}
	crowded, err := amqp.DialConfig(b.URL(), amqp.Config{ChannelMax: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer crowded.Close()
	if _, err := crowded.Channel(); err != nil {
		t.Fatal(err)
	}
	for words, cfg := range map[string]amqpkit.Config{
		"last failure:|127.0.0.1":         {URLs: []string{"amqp://127.0.0.1:1"}},
		"last failure:|" + queue:          {URLs: []string{b.URL()}, Setup: conflict.Declare},
		"last failure:|limit":             limited("max-connections"),
		"cannot open|set_user_limits|530": limited("max-channels"),
		"cannot open|channel_max":         {},
	} {
		var conn producer.Connection = rawConnection{crowded}
		if len(cfg.URLs) > 0 {
			cfg.Logger = kit.Logger(t)
			opened, err := amqpkit.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = opened.Close(context.Background()) }()
			conn = opened
		}
		p := kit.NewProducer(t, conn, producer.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := p.Publish(ctx, "", queue, amqp.Publishing{})
		cancel()
		if !errors.Is(err, producer.ErrNotPublished) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want ErrNotPublished", words, err)
		}
		for word := range strings.SplitSeq(words, "|") {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%v does not contain %q", err, word)
			}
		}
	}
}
