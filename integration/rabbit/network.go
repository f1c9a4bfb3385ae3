package rabbit

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// Disconnect removes node i from the network, so that neither the other nodes nor clients can reach it. Open client
// connections are closed and new ones are refused. The other nodes get no answer from it, and the node itself is not
// notified. Methods that run commands on the node, such as Ctl and Eval, continue to work.
func (c *Cluster) Disconnect(ctx context.Context, i int) error {
	err := withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.NetworkDisconnect(ctx, c.network, client.NetworkDisconnectOptions{Container: c.containerOf(i).ctr.ID, Force: true})
		return err
	})
	if err != nil {
		return fmt.Errorf("rabbit: disconnect %s: %w", c.nodes[i], err)
	}
	c.setIsolated(i, true)
	return nil
}

// Connect reverses Disconnect. The node keeps its port. Connect does not wait until the cluster is healthy: see Await.
func (c *Cluster) Connect(ctx context.Context, i int) error {
	err := withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.NetworkConnect(ctx, c.network, client.NetworkConnectOptions{
			Container:      c.containerOf(i).ctr.ID,
			EndpointConfig: &network.EndpointSettings{Aliases: []string{hostname(i)}},
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("rabbit: connect %s: %w", c.nodes[i], err)
	}
	c.setIsolated(i, false)
	return nil
}

// Partition separates node i from the other nodes, while its clients stay connected. Both sides see each other go down
// immediately and cannot reconnect until Heal. Partition sets a wrong Erlang cookie for the other nodes on node i; a
// restart of node i resets it.
func (c *Cluster) Partition(ctx context.Context, i int) error {
	err := c.otherNodes(ctx, i, "[begin erlang:set_cookie(N, amqpkit_partition), erlang:disconnect_node(N) end || N <- Others]")
	if err != nil {
		return fmt.Errorf("rabbit: partition %s: %w", c.nodes[i], err)
	}
	c.setIsolated(i, true)
	return nil
}

// Heal reverses Partition. It does not wait until the cluster is healthy: see Await.
func (c *Cluster) Heal(ctx context.Context, i int) error {
	err := c.otherNodes(ctx, i, "[begin erlang:set_cookie(N, erlang:get_cookie()), net_kernel:connect_node(N) end || N <- Others]")
	if err != nil {
		return fmt.Errorf("rabbit: heal %s: %w", c.nodes[i], err)
	}
	c.setIsolated(i, false)
	return nil
}

// otherNodes evaluates an Erlang expression on node i. The variable Others is bound to the names of the other nodes.
func (c *Cluster) otherNodes(ctx context.Context, i int, expr string) error {
	var others []string
	for j, b := range c.nodes {
		if j != i {
			others = append(others, "'"+b.Node()+"'")
		}
	}
	_, err := c.nodes[i].Eval(ctx, "Others = ["+strings.Join(others, ",")+"], "+expr+`, ""`)
	return err
}

func (c *Cluster) containerOf(i int) *container { return c.nodes[i].node.(*container) }

func (c *Cluster) setIsolated(i int, isolated bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isolated[i] = isolated
}

func (c *Cluster) isIsolated(i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isolated[i]
}
