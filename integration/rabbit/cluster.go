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

// Cluster is a cluster of RabbitMQ nodes in containers, on a Docker network of its own. StopAll, StartAll and
// RollingRestart use the nodes' Stop and StartAgain, and are for one goroutine at a time as those are; the other
// methods may be called by any, also meanwhile.
type Cluster struct {
	network string
	nodes   []*Broker

	mu  sync.Mutex
	cut map[int]bool // disconnected
}

// StartCluster starts n nodes at once and returns when they are one cluster. A quorum queue has a member on each node,
// on five at most. The options are the nodes' own; Keep is not for clusters. It returns a *DockerRequiredError where there
// is no Docker, and ErrNotOwned if AMQP_URL names a broker.
func StartCluster(ctx context.Context, n int, o Options) (*Cluster, error) {
	o = o.withDefaults()
	err := o.validate()
	if o.Keep || n < 1 {
		err = errors.Join(err, errors.New("rabbit: a cluster has one node or more, and does not outlive its process"))
	}
	if err != nil {
		return nil, err
	}
	image, err := chooseContainer(ctx, os.Getenv, &machine{progress: o.Progress}, "a cluster of RabbitMQ nodes")
	if err != nil {
		return nil, err
	}
	c := &Cluster{network: uniqueName(), cut: map[int]bool{}}
	if err := c.makeNetwork(ctx); err != nil {
		return nil, fmt.Errorf("rabbit: network of a cluster: %w", err)
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

// each calls do for all nodes at once.
func (c *Cluster) each(do func(int, *Broker) error) error {
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, b := range c.nodes {
		wg.Go(func() { errs[i] = do(i, b) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// discard removes what was started for nothing, whether or not the caller's context has ended.
func (c *Cluster) discard() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return c.Close(ctx)
}

// Nodes are the cluster's brokers, always in the same order. Each keeps its port while it is stopped, killed, paused or
// disconnected. StartAgain of one returns only when a majority of the nodes runs.
func (c *Cluster) Nodes() []*Broker { return c.nodes }

// URLs are the addresses of the nodes, in their order.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.nodes))
	for i, b := range c.nodes {
		urls[i] = b.URL()
	}
	return urls
}

// String tells which cluster this is: "3 nodes, RabbitMQ 4.3.6 on network amqpkit-test-1-2f".
func (c *Cluster) String() string {
	return fmt.Sprintf("%d nodes, RabbitMQ %s on network %s", len(c.nodes), c.nodes[0].Version(), c.network)
}

// StopAll stops all nodes at once, in an orderly way.
func (c *Cluster) StopAll(ctx context.Context) error {
	return c.each(func(_ int, b *Broker) error { return b.Stop(ctx) })
}

// StartAll starts all nodes that do not run, at once, and returns when they are one cluster again.
func (c *Cluster) StartAll(ctx context.Context) error {
	if err := c.each(func(_ int, b *Broker) error { return b.StartAgain(ctx) }); err != nil {
		return err
	}
	return c.Await(ctx)
}

// RollingRestart restarts one node after another, as an upgrade does, each when all is whole after the one before.
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

// Leader returns which of the Nodes leads a quorum queue of the virtual host /, by its index. Nodes that are
// disconnected, paused or stopped are not asked. It is an error if there is no leader now; it returns ErrNoQueue if the
// queue does not exist.
func (c *Cluster) Leader(ctx context.Context, queue string) (int, error) {
	var errs []error
	for i, b := range c.nodes {
		if c.disconnected(i) {
			continue // it may take itself for the leader
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

// Close ends all nodes and removes their data and their network.
func (c *Cluster) Close(ctx context.Context) error {
	err := c.each(func(_ int, b *Broker) error { return b.Close(ctx) })
	return errors.Join(err, withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		return removeNetwork(ctx, cli, c.network)
	}))
}

func (c *Cluster) makeNetwork(ctx context.Context) error {
	if err := removeStale(ctx); err != nil {
		return err
	}
	return withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.NetworkCreate(ctx, c.network, client.NetworkCreateOptions{Driver: "bridge", Labels: ownerLabels()})
		return err
	})
}
