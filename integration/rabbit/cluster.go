package rabbit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// Cluster is a cluster of RabbitMQ nodes that run in containers on a private Docker network. StopAll, StartAll and
// RollingRestart call the nodes' Stop and Start and, like these, must not be called concurrently. All other methods
// are safe for concurrent use.
type Cluster struct {
	network string
	nodes   []*Broker

	mu       sync.Mutex
	isolated map[int]bool // by index: nodes that are disconnected or partitioned
}

// StartCluster starts n nodes concurrently and returns once they have formed a cluster. A quorum queue has a member on
// each node, up to five. The options apply to every node; Keep is not supported. StartCluster returns a
// *DockerRequiredError without Docker, and ErrNotOwned if AMQP_URL is set.
func StartCluster(ctx context.Context, n int, o Options) (*Cluster, error) {
	o = o.withDefaults()
	err := o.validate()
	if o.Keep || n < 1 {
		err = errors.Join(err, errors.New("rabbit: a cluster needs at least one node and does not support Options.Keep"))
	}
	if err != nil {
		return nil, err
	}
	image, err := chooseContainer(ctx, os.Getenv, &machine{progress: o.Progress}, "a cluster of RabbitMQ nodes")
	if err != nil {
		return nil, err
	}
	c := &Cluster{network: uniqueName(), isolated: map[int]bool{}}
	if err := c.createNetwork(ctx); err != nil {
		return nil, fmt.Errorf("rabbit: create the cluster's network: %w", err)
	}
	conf := strings.Builder{}
	fmt.Fprintln(&conf, "cluster_formation.peer_discovery_backend = classic_config")
	for i := range n {
		fmt.Fprintf(&conf, "cluster_formation.classic_config.nodes.%d = rabbit@%s\n", i+1, hostname(i))
	}
	o.Conf = conf.String() + o.Conf
	cookie := rand.Text()
	for i := range n {
		c.nodes = append(c.nodes, &Broker{unlock: func() {}, node: &container{
			image: image, name: fmt.Sprintf("%s-%d", c.network, i+1), options: o,
			hostname: hostname(i), network: c.network, cookie: cookie,
		}})
	}
	if err := c.StartAll(ctx); err != nil {
		return nil, errors.Join(err, c.discard())
	}
	return c, nil
}

func hostname(i int) string { return fmt.Sprintf("node%d", i+1) }

// each calls do for all nodes concurrently.
func (c *Cluster) each(do func(int, *Broker) error) error {
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, b := range c.nodes {
		wg.Go(func() { errs[i] = do(i, b) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// discard removes a cluster that did not start, even if the caller's context is done.
func (c *Cluster) discard() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return c.Close(ctx)
}

// Nodes returns the cluster's brokers, always in the same order. A node keeps its port when it is stopped, killed,
// paused or disconnected. Its Start returns only once a majority of the nodes is running.
func (c *Cluster) Nodes() []*Broker { return c.nodes }

// URLs returns the addresses of the nodes, in the order of Nodes.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.nodes))
	for i, b := range c.nodes {
		urls[i] = b.URL()
	}
	return urls
}

// String returns the size, version and network, such as "3 nodes, RabbitMQ 4.3.6 on network amqpkit-test-1-2f".
func (c *Cluster) String() string {
	return fmt.Sprintf("%d nodes, RabbitMQ %s on network %s", len(c.nodes), c.nodes[0].Version(), c.network)
}

// StopAll shuts all nodes down gracefully and concurrently.
func (c *Cluster) StopAll(ctx context.Context) error {
	return c.each(func(_ int, b *Broker) error { return b.Stop(ctx) })
}

// StartAll starts all stopped nodes concurrently and returns once the cluster is healthy, as Await does.
func (c *Cluster) StartAll(ctx context.Context) error {
	if err := c.each(func(_ int, b *Broker) error { return b.Start(ctx) }); err != nil {
		return err
	}
	return c.Await(ctx)
}

// RollingRestart restarts the nodes in turn, as an upgrade does. It waits for a healthy cluster after each one.
func (c *Cluster) RollingRestart(ctx context.Context) error {
	for _, b := range c.nodes {
		if err := b.Restart(ctx); err != nil {
			return err
		}
		if err := c.Await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Leader returns the index in Nodes of the leader of a quorum queue in the virtual host /. It asks only nodes that are
// neither isolated nor paused nor stopped. It returns an error if the queue has no leader at the moment, and ErrNoQueue
// if the queue does not exist.
func (c *Cluster) Leader(ctx context.Context, queue string) (int, error) {
	var errs []error
	for i, b := range c.nodes {
		if c.isIsolated(i) {
			continue // it may still consider itself the leader
		}
		name, err := b.Leader(ctx, queue)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for j, other := range c.nodes {
			if other.Node() == name {
				return j, nil
			}
		}
	}
	return 0, errors.Join(errs...)
}

// Close kills all nodes and removes their data and network.
func (c *Cluster) Close(ctx context.Context) error {
	err := c.each(func(_ int, b *Broker) error { return b.Close(ctx) })
	return errors.Join(err, withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		return removeNetwork(ctx, cli, c.network)
	}))
}

func (c *Cluster) createNetwork(ctx context.Context) error {
	if err := removeStale(ctx); err != nil {
		return err
	}
	return withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.NetworkCreate(ctx, c.network, client.NetworkCreateOptions{Driver: "bridge", Labels: ownerLabels()})
		return err
	})
}
