package rabbit

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// Disconnect cuts node i off the network: the other nodes and its clients. Its clients see their connections closed
// and new ones refused; the other nodes see silence. Nothing on the node is told. Rabbitmqctl and what is asked of the
// node itself go on working.
func (c *Cluster) Disconnect(ctx context.Context, i int) error {
	err := withDocker(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.NetworkDisconnect(ctx, c.network, client.NetworkDisconnectOptions{Container: c.containerOf(i).ctr.ID, Force: true})
		return err
	})
	if err != nil {
		return fmt.Errorf("rabbit: disconnect %s: %w", c.nodes[i], err)
	}
	c.setCut(i, true)
	return nil
}

// Connect puts node i back on the network, with the port it had. It does not wait for the cluster: see Await.
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
	c.setCut(i, false)
	return nil
}

// Partition cuts node i off the other nodes while its clients keep their connections: it and the others see each other
// go down at once, and cannot come together until Heal. It works by a false cookie for the others on node i, which
// a restart of node i undoes.
func (c *Cluster) Partition(ctx context.Context, i int) error {
	err := c.otherNodes(ctx, i, "[begin erlang:set_cookie(N, amqpkit_partition), erlang:disconnect_node(N) end || N <- Others]")
	if err != nil {
		return fmt.Errorf("rabbit: partition %s: %w", c.nodes[i], err)
	}
	c.setCut(i, true)
	return nil
}

// Heal ends the partition of node i. It does not wait for the cluster: see Await.
func (c *Cluster) Heal(ctx context.Context, i int) error {
	err := c.otherNodes(ctx, i, "[begin erlang:set_cookie(N, erlang:get_cookie()), net_kernel:connect_node(N) end || N <- Others]")
	if err != nil {
		return fmt.Errorf("rabbit: heal %s: %w", c.nodes[i], err)
	}
	c.setCut(i, false)
	return nil
}

// otherNodes evaluates an Erlang expression of the Others on node i.
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

func (c *Cluster) setCut(i int, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[i] = cut
}

func (c *Cluster) disconnected(i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut[i]
}
