package rabbit

import (
	"context"
	"fmt"
	"strings"
)

// Await returns once the cluster is healthy: every node accepts logins and sees all others running, all members of all
// quorum queues are online, and all nodes agree on the leaders. It waits for up to two minutes, or until ctx is done.
func (c *Cluster) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for last := error(nil); ; {
		err := c.healthy(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		if err := nextPoll(ctx); err != nil {
			return fmt.Errorf("rabbit: the cluster is not healthy: %w; last check: %w", err, last)
		}
	}
}

func (c *Cluster) healthy(ctx context.Context) error {
	views := make([]string, len(c.nodes))
	err := c.each(func(i int, b *Broker) (err error) {
		views[i], err = b.view(ctx, len(c.nodes))
		return err
	})
	if err != nil {
		return err
	}
	for i, view := range views {
		if view != views[0] { // one of them still follows a former leader
			return fmt.Errorf("different leaders: %s sees %s, %s sees %s", c.nodes[0].Node(), views[0], c.nodes[i].Node(), view)
		}
	}
	return nil
}

// view returns the leaders of all quorum queues, as this node sees them. It returns an error if the node does not accept
// logins, if it does not see n nodes running, or if a queue lacks its leader or another member.
func (b *Broker) view(ctx context.Context, n int) (leaders string, err error) {
	if _, err := handshake(ctx, b.URL()); err != nil {
		return "", fmt.Errorf("%s: %w", b.Node(), err)
	}
	out, err := b.Eval(ctx, fmt.Sprintf(`
		LeaderOf = fun ({Id, _} = Recorded) ->
			case ra_leaderboard:lookup_leader(Id) of undefined -> Recorded; Seen -> Seen end
		end,
		Leaders = lists:sort([{amqqueue:get_name(Q), LeaderOf(amqqueue:get_pid(Q))} || Q <- rabbit_amqqueue:list(),
			amqqueue:get_type(Q) =:= rabbit_quorum_queue]),
		Degraded = [rabbit_misc:rs(Name) || {Name, Leader} <- Leaders,
			begin
				{ok, Q} = rabbit_amqqueue:lookup(Name),
				[{members, M}, {online, O}] = rabbit_quorum_queue:info(Q, [members, online]),
				length(O) < length(M) orelse
					case ra:members(Leader, 1000) of {ok, _, Leader} -> false; _ -> true end
			end],
		case {length(rabbit_nodes:list_running()), Degraded} of
			{%d, []} -> io_lib:format("healthy ~p", [[Leader || {_, Leader} <- Leaders]]);
			{Running, _} -> io_lib:format("~b nodes running; queues without a leader or a member: ~p", [Running, Degraded])
		end`, n))
	if err != nil {
		return "", fmt.Errorf("%s: %w", b.Node(), err)
	}
	leaders, healthy := strings.CutPrefix(out, "healthy ")
	if !healthy {
		return "", fmt.Errorf("%s: %s", b.Node(), out)
	}
	return leaders, nil
}
