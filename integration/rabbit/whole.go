package rabbit

import (
	"context"
	"fmt"
	"strings"
)

// Await returns when the cluster is whole: every node takes logins, has all the others, and knows the leader of every
// quorum queue, which has all its members. It waits until ctx ends, for two minutes at most.
func (c *Cluster) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for last := error(nil); ; {
		err := c.whole(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("rabbit: the cluster is not whole: %w; at last: %w", err, last)
		}
	}
}

func (c *Cluster) whole(ctx context.Context) error {
	views := make([]string, len(c.nodes))
	err := c.each(func(i int, b *Broker) (err error) {
		views[i], err = b.view(ctx, len(c.nodes))
		return err
	})
	if err != nil {
		return err
	}
	for i, view := range views {
		if view != views[0] { // one of them still follows a leader that is none any more
			return fmt.Errorf("%s has leaders %s, %s has %s", c.nodes[0].Node(), views[0], c.nodes[i].Node(), view)
		}
	}
	return nil
}

// view returns the leaders of all quorum queues as the node's clients are sent to them. It is an error if the node takes
// no login, has not n nodes, or misses a leader or a member of a queue.
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
		Short = [rabbit_misc:rs(Name) || {Name, Leader} <- Leaders,
			begin
				{ok, Q} = rabbit_amqqueue:lookup(Name),
				[{members, M}, {online, O}] = rabbit_quorum_queue:info(Q, [members, online]),
				length(O) < length(M) orelse
					case ra:members(Leader, 1000) of {ok, _, Leader} -> false; _ -> true end
			end],
		case {length(rabbit_nodes:list_running()), Short} of
			{%d, []} -> io_lib:format("whole ~p", [[Leader || {_, Leader} <- Leaders]]);
			{Running, _} -> io_lib:format("~b nodes; queues without a leader or a member: ~p", [Running, Short])
		end`, n))
	if err != nil {
		return "", fmt.Errorf("%s: %w", b.Node(), err)
	}
	leaders, whole := strings.CutPrefix(out, "whole ")
	if !whole {
		return "", fmt.Errorf("%s: %s", b.Node(), out)
	}
	return leaders, nil
}
