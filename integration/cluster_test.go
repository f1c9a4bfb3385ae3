package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// TestCluster does to a cluster what the harness can do, step by step on one cluster, since forming it takes its time.
// Whatever was ever confirmed is on the queue in the end, and no node changed its URL.
func TestCluster(t *testing.T) {
	needsControl(t)
	c := startCluster(t)
	urls := slices.Clone(c.URLs())

	t.Run("a settlement that a queue's leader never got stays in doubt", c.keepsDoubt)

	t.Run("the kill of its leader moves a queue", func(t *testing.T) {
		leader := c.leader(t)
		timed(t, "kill", func() { must(t, c.Nodes()[leader].Kill(c.ctx)) })
		c.goesOnWithout(t, leader)
		timed(t, "start again", func() { must(t, c.Nodes()[leader].Start(c.ctx)) })
		c.rejoins(t, leader)
	})

	t.Run("disconnecting a node cuts it off all", func(t *testing.T) {
		leader := c.leader(t)
		node := c.Nodes()[leader]
		closed := dial(t, node, "disconnected").NotifyClose(make(chan *amqp.Error, 1))
		timed(t, "disconnect", func() { must(t, c.Disconnect(c.ctx, leader)) })
		if e := receive(t, closed, "lost connection"); e.Server {
			t.Errorf("its client was told %v: it could not have been", e)
		}
		if conn, err := amqp.DialConfig(node.URL(), amqp.Config{Dial: amqp.DefaultDial(time.Second)}); err == nil {
			_ = conn.Close()
			t.Error("a disconnected node took a login")
		}
		if clients, err := node.Clients(c.ctx); err != nil {
			t.Errorf("Clients of a disconnected node = %v, %v", clients, err)
		}
		c.goesOnWithout(t, leader)
		timed(t, "connect", func() { must(t, c.Connect(c.ctx, leader)) })
		c.rejoins(t, leader)
	})

	t.Run("a partition leaves its clients connected", func(t *testing.T) {
		leader := c.leader(t)
		node := c.Nodes()[leader]
		conn := dial(t, node, "in the minority")
		timed(t, "partition", func() { must(t, c.Partition(c.ctx, leader)) })
		if err := publishWithin(conn, c.queue, "in the minority", time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("publish in the minority = %v, want no answer", err)
		}
		c.goesOnWithout(t, leader)
		other := c.Nodes()[(leader+1)%3]
		for from, to := range map[*rabbit.Broker]*rabbit.Broker{node: other, other: node} {
			met, err := from.Eval(c.ctx, "atom_to_list(net_kernel:connect_node('"+to.Node()+"'))")
			if met != "false" || err != nil {
				t.Errorf("%s comes to %s: %s, %v; want false", from.Node(), to.Node(), met, err)
			}
		}
		timed(t, "heal", func() { must(t, c.Heal(c.ctx, leader)) })
		c.rejoins(t, leader)
		channel(t, conn) // the connection of before
	})

	t.Run("a memory alarm of one node blocks publishers of another", func(t *testing.T) {
		conn := dial(t, c.Nodes()[0], "blocked")
		blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
		ch := channel(t, conn)
		must(t, c.Nodes()[1].MemoryAlarm(c.ctx, true))
		t.Cleanup(func() { must(t, c.Nodes()[1].MemoryAlarm(context.Background(), false)) })
		// The alarm is on its way to the other nodes: a publish before it arrives blocks nothing.
		waitFor(t, func() bool {
			must(t, ch.PublishWithContext(c.ctx, "", c.queue, true, false, amqp.Publishing{Body: []byte("alarm")}))
			select {
			case e := <-blocked:
				return e.Active
			default:
				return false
			}
		})
		must(t, c.Nodes()[1].MemoryAlarm(c.ctx, false))
		if e := receive(t, blocked, "connection.unblocked"); e.Active {
			t.Errorf("blocked = %+v, want unblocked", e)
		}
	})

	t.Run("a rolling restart keeps the queue at work", func(t *testing.T) {
		timed(t, "rolling restart", func() { must(t, c.RollingRestart(c.ctx)) })
		c.publish(t, 0)
	})

	t.Run("a restart of all keeps what was confirmed", func(t *testing.T) {
		timed(t, "stop all", func() { must(t, c.StopAll(c.ctx)) })
		timed(t, "start all", func() { must(t, c.StartAll(c.ctx)) })
		c.publish(t, 1)
	})

	if !slices.Equal(c.URLs(), urls) {
		t.Errorf("URLs = %q, before it all %q", c.URLs(), urls)
	}
	c.holdsAllThatWasConfirmed(t)
}

// A clusterBench is a cluster with a quorum queue.
type clusterBench struct {
	*rabbit.Cluster
	ctx       context.Context
	queue     string
	confirmed []string
}

func startCluster(t *testing.T) *clusterBench {
	t.Helper()
	c := &clusterBench{ctx: within(t, 5*time.Minute), queue: "cluster"}
	timed(t, "formation", func() {
		var err error
		c.Cluster, err = rabbit.StartCluster(c.ctx, 3, rabbit.Options{Progress: t.Output()})
		needsDocker(t, err)
	})
	t.Logf("%s", c)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		must(t, c.Close(ctx))
	})
	declareQuorum(t, c.Nodes()[0], c.queue)
	for _, b := range c.Nodes() {
		must(t, b.Flush(c.ctx))
	}
	for i := range c.Nodes() {
		c.publish(t, i)
	}
	return c
}

func (c *clusterBench) leader(t *testing.T) int {
	t.Helper()
	leader, err := c.Leader(c.ctx, c.queue)
	must(t, err)
	return leader
}

// publish has one message confirmed through node i, however often it must be sent.
func (c *clusterBench) publish(t *testing.T, i int) {
	t.Helper()
	body := fmt.Sprintf("message %d", len(c.confirmed))
	waitFor(t, func() bool {
		conn, err := amqp.DialConfig(c.URLs()[i], amqp.Config{Dial: amqp.DefaultDial(time.Second)})
		if err != nil {
			return false
		}
		defer func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) }()
		return publishWithin(conn, c.queue, body, time.Second) == nil
	})
	c.confirmed = append(c.confirmed, body)
}

// goesOnWithout expects the queue to take messages from all nodes but one, which leads it no more.
func (c *clusterBench) goesOnWithout(t *testing.T, lost int) {
	t.Helper()
	timed(t, "failover", func() {
		for i := range c.Nodes() {
			if i != lost {
				c.publish(t, i)
			}
		}
	})
	if leader := c.leader(t); leader == lost {
		t.Errorf("node %d leads, and is lost", leader)
	}
}

// rejoins expects a node to work for the queue as soon as the cluster says that it is whole.
func (c *clusterBench) rejoins(t *testing.T, i int) {
	t.Helper()
	timed(t, "whole again", func() { must(t, c.Await(c.ctx)) })
	must(t, publishWithin(dial(t, c.Nodes()[i], "rejoined"), c.queue, "rejoined", 5*time.Second))
}

func (c *clusterBench) holdsAllThatWasConfirmed(t *testing.T) {
	t.Helper()
	ch := channel(t, dial(t, c.Nodes()[2], "take"))
	var got []string
	for {
		d, ok, err := ch.Get(c.queue, true)
		must(t, err)
		if !ok {
			break
		}
		got = append(got, string(d.Body))
	}
	for _, body := range c.confirmed {
		if !slices.Contains(got, body) {
			t.Errorf("%q was confirmed and is lost", body)
		}
	}
}

// publishWithin publishes one message and returns nil if it is confirmed in time.
func publishWithin(conn *amqp.Connection, queue, body string, d time.Duration) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", queue, true, false,
		amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent})
	if err != nil {
		return err
	}
	acked, err := confirm.WaitContext(ctx)
	if err == nil && !acked {
		err = errors.New("not confirmed")
	}
	return err
}
