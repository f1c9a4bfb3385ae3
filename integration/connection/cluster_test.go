package connection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
	"github.com/amqpkit/amqpkit/producer"
)

// TestCluster does to a cluster what the harness can do, step by step on one cluster, since forming it takes its time.
// Whatever was ever confirmed is on the queue in the end, and no node changed its URL.
func TestCluster(t *testing.T) {
	kit.NeedsControl(t)
	c := startCluster(t)
	urls := slices.Clone(c.URLs())

	t.Run("a settlement that a queue's leader never got stays in doubt", c.keepsDoubt)

	t.Run("the kill of its leader moves a queue", func(t *testing.T) {
		leader := c.leader(t)
		kit.Timed(t, "kill", func() { kit.Must(t, c.Nodes()[leader].Kill(c.ctx)) })
		c.goesOnWithout(t, leader)
		kit.Timed(t, "start again", func() { kit.Must(t, c.Nodes()[leader].Start(c.ctx)) })
		c.rejoins(t, leader)
	})

	t.Run("disconnecting a node cuts it off all", func(t *testing.T) {
		leader := c.leader(t)
		node := c.Nodes()[leader]
		closed := kit.Dial(t, node, "disconnected").NotifyClose(make(chan *amqp.Error, 1))
		kit.Timed(t, "disconnect", func() { kit.Must(t, c.Disconnect(c.ctx, leader)) })
		if e := kit.Receive(t, closed, "lost connection"); e.Server {
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
		kit.Timed(t, "connect", func() { kit.Must(t, c.Connect(c.ctx, leader)) })
		c.rejoins(t, leader)
	})

	t.Run("a partition leaves its clients connected", func(t *testing.T) {
		leader := c.leader(t)
		node := c.Nodes()[leader]
		conn := kit.Dial(t, node, "in the minority")
		kit.Timed(t, "partition", func() { kit.Must(t, c.Partition(c.ctx, leader)) })
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
		kit.Timed(t, "heal", func() { kit.Must(t, c.Heal(c.ctx, leader)) })
		c.rejoins(t, leader)
		kit.Channel(t, conn) // the connection of before
	})

	t.Run("a memory alarm of one node blocks publishers of another", func(t *testing.T) {
		conn := kit.Dial(t, c.Nodes()[0], "blocked")
		blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
		ch := kit.Channel(t, conn)
		kit.Must(t, c.Nodes()[1].MemoryAlarm(c.ctx, true))
		t.Cleanup(func() { kit.Must(t, c.Nodes()[1].MemoryAlarm(context.Background(), false)) })
		// The alarm is on its way to the other nodes: a publish before it arrives blocks nothing.
		kit.WaitFor(t, func() bool {
			kit.Must(t, ch.PublishWithContext(c.ctx, "", c.queue, true, false, amqp.Publishing{Body: []byte("alarm")}))
			select {
			case e := <-blocked:
				return e.Active
			default:
				return false
			}
		})
		kit.Must(t, c.Nodes()[1].MemoryAlarm(c.ctx, false))
		if e := kit.Receive(t, blocked, "connection.unblocked"); e.Active {
			t.Errorf("blocked = %+v, want unblocked", e)
		}
	})

	t.Run("a rolling restart keeps the queue at work", func(t *testing.T) {
		kit.Timed(t, "rolling restart", func() { kit.Must(t, c.RollingRestart(c.ctx)) })
		c.publish(t, 0)
	})

	t.Run("a restart of all keeps what was confirmed", func(t *testing.T) {
		kit.Timed(t, "stop all", func() { kit.Must(t, c.StopAll(c.ctx)) })
		kit.Timed(t, "start all", func() { kit.Must(t, c.StartAll(c.ctx)) })
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
	c := &clusterBench{ctx: kit.Within(t, 5*time.Minute), queue: "cluster"}
	kit.Timed(t, "formation", func() {
		var err error
		c.Cluster, err = rabbit.StartCluster(c.ctx, 3, rabbit.Options{Progress: t.Output()})
		kit.NeedsDocker(t, err)
	})
	t.Logf("%s", c)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		kit.Must(t, c.Close(ctx))
	})
	kit.DeclareQuorum(t, c.Nodes()[0], c.queue)
	for _, b := range c.Nodes() {
		kit.Must(t, b.Flush(c.ctx))
	}
	for i := range c.Nodes() {
		c.publish(t, i)
	}
	return c
}

func (c *clusterBench) leader(t *testing.T) int {
	t.Helper()
	leader, err := c.Leader(c.ctx, c.queue)
	kit.Must(t, err)
	return leader
}

// publish has one message confirmed through node i, however often it must be sent.
func (c *clusterBench) publish(t *testing.T, i int) {
	t.Helper()
	body := fmt.Sprintf("message %d", len(c.confirmed))
	kit.WaitFor(t, func() bool {
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
	kit.Timed(t, "failover", func() {
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
	kit.Timed(t, "whole again", func() { kit.Must(t, c.Await(c.ctx)) })
	kit.Must(t, publishWithin(kit.Dial(t, c.Nodes()[i], "rejoined"), c.queue, "rejoined", 5*time.Second))
}

func (c *clusterBench) holdsAllThatWasConfirmed(t *testing.T) {
	t.Helper()
	ch := kit.Channel(t, kit.Dial(t, c.Nodes()[2], "take"))
	var got []string
	for {
		d, ok, err := ch.Get(c.queue, true)
		kit.Must(t, err)
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

func TestS24QueueWithoutItsMajorityIsTimedOutAndGoesOnWhenItIsBack(t *testing.T) {
	const timeout = 2 * time.Second
	kit.NeedsControl(t)
	c := startCluster(t)
	ctx := kit.Within(t, 3*time.Minute)
	here, others := c.Nodes()[0], c.Nodes()[1:]
	const replicated, single = "replicated", "single"
	kit.Declare(t, here, replicated, "quorum") // its leader is where its client is
	kit.Declare(t, here, single, "classic")
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{here.URL()}})
	p := kit.NewProducer(t, conn, producer.Config{ConfirmTimeout: timeout})
	publish := func(queue, id string) error {
		return p.Publish(ctx, "", queue, amqp.Publishing{MessageId: id})
	}
	if err := errors.Join(publish(replicated, "before"), publish(single, "before")); err != nil {
		t.Fatal(err)
	}
	session, err := conn.PublishConnection(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, b := range others {
		wg.Go(func() {
			if err := b.Kill(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	start := time.Now()
	err = publish(replicated, "without")
	if took := time.Since(start); !errors.Is(err, producer.ErrUnconfirmed) || !errors.Is(err, producer.ErrConfirmTimeout) || took > timeout+kit.Soon {
		t.Errorf("Publish = %v after %v, want ErrUnconfirmed and ErrConfirmTimeout after %v", err, took, timeout)
	} else {
		t.Logf("told after %v with a timeout of %v", took, timeout)
	}
	if err := publish(single, "without"); err != nil {
		t.Errorf("Publish to a queue on the node alone = %v", err)
	}
	if after, err := conn.PublishConnection(ctx); after != session || err != nil {
		t.Errorf("the connection was lost over it (%v)", err)
	}

	if err := c.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	if err := publish(replicated, "after"); err != nil {
		t.Errorf("Publish with the majority back = %v", err)
	}
	held := kit.Copies(kit.Drained(t, kit.Channel(t, kit.Dial(t, here, "drain")), replicated))
	t.Logf("the queue held %v", held)
	if held["before"] != 1 || held["after"] != 1 || held["without"] > 1 {
		t.Errorf("want what was confirmed once each, and what was not once at most")
	}
}

// A node may have read a settlement that the queue's leader never gets: it stays in doubt.
func (c *clusterBench) keepsDoubt(t *testing.T) {
	const queue, n = "doubt", 3
	kit.DeclareQuorum(t, c.Nodes()[0], queue)
	leader, err := c.Leader(c.ctx, queue)
	kit.Must(t, err)
	for range n {
		kit.Must(t, publishWithin(kit.Dial(t, c.Nodes()[leader], "doubt"), queue, "m", 5*time.Second))
	}
	proxy := amqptest.StartProxy(t, c.URLs()[(leader+1)%3])
	conn := kit.Connect(t, amqpkit.Config{URLs: []string{proxy.URL()}})
	begun, release := make(chan struct{}, n), make(chan struct{})
	cons, err := consumer.New(conn, consumer.Config{Queue: queue, Workers: n, Prefetch: n, Logger: kit.Logger(t)}, func(context.Context, *consumer.Delivery) error {
		begun <- struct{}{}
		<-release
		return nil
	})
	kit.Must(t, err)
	ctx, end := context.WithCancel(c.ctx)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- cons.Run(ctx) }()
	for range n {
		kit.Receive(t, begun, "delivery")
	}
	for _, i := range []int{leader, (leader + 2) % 3} {
		kit.Must(t, c.Nodes()[i].Pause(c.ctx))
	}
	close(release)
	kit.Work(2 * time.Second)
	proxy.RefuseConnections(true)
	proxy.Cut()
	kit.WaitFor(t, func() bool { return cons.Err() != nil })
	end()
	var d *consumer.DrainError
	if err := kit.Receive(t, ended, "Run's return"); !errors.As(err, &d) || d.Unsettled != n {
		t.Errorf("Run = %v, want %d settlements in doubt", err, n)
	}
	for _, i := range []int{leader, (leader + 2) % 3} {
		kit.Must(t, c.Nodes()[i].Unpause(c.ctx))
	}
	c.rejoins(t, leader)
}
