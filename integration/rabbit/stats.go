package rabbit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const awaitTimeout = 30 * time.Second

// ErrNoQueue reports that the queue does not exist.
var ErrNoQueue = errors.New("rabbit: no such queue")

// Counts are what a queue holds at one moment.
type Counts struct {
	Ready     int // messages waiting to be delivered
	Unacked   int // messages delivered and not settled
	Consumers int
}

// Queue returns what a queue of the virtual host / holds now: the queue itself is asked, not the broker's
// statistics, which lag by seconds. A message that a quorum queue holds back for a delayed retry is in no count. It
// takes some 0.1 s. It returns ErrNoQueue if the queue does not exist and ErrNotOwned for the broker from
// AMQP_URL.
func (b *Broker) Queue(ctx context.Context, name string) (Counts, error) {
	out, err := b.Eval(ctx, fmt.Sprintf(`
		case rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, %s)) of
			{error, not_found} -> "missing";
			{ok, Q} ->
				[R, U, C] = case amqqueue:get_type(Q) of
					rabbit_quorum_queue ->
						P = amqqueue:get_pid(Q),
						O = case erlang:function_exported(ra, member_overview, 1) of
							true -> {ok, #{machine := M}, _} = ra:member_overview(P), M;
							false -> {ok, {_, M}, _} = ra:leader_query(P, fun rabbit_fifo:overview/1), M
						end,
						[maps:get(K, O) || K <- [num_ready_messages, num_checked_out, num_consumers]];
					_ ->
						[V || {_, V} <- rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged, consumers])]
				end,
				io_lib:format("~b ~b ~b", [R, U, C])
		end`, erlangBinary(name)))
	if err != nil {
		return Counts{}, fmt.Errorf("rabbit: counts of queue %q: %w", name, err)
	}
	if out == "missing" {
		return Counts{}, fmt.Errorf("%w: %q", ErrNoQueue, name)
	}
	var c Counts
	if _, err := fmt.Sscan(out, &c.Ready, &c.Unacked, &c.Consumers); err != nil {
		return Counts{}, fmt.Errorf("rabbit: counts of queue %q: %q: %w", name, out, err)
	}
	return c, nil
}

// AwaitQueue returns nil once the queue's counts satisfy ok, asking again and again until ctx ends, for 30 s at
// most. The error then tells the last counts.
func (b *Broker) AwaitQueue(ctx context.Context, name string, ok func(Counts) bool) error {
	ctx, cancel := context.WithTimeout(ctx, awaitTimeout)
	defer cancel()
	for last := ""; ; {
		c, err := b.Queue(ctx, name)
		switch {
		case err == nil && ok(c):
			return nil
		case errors.Is(err, ErrNotOwned):
			return err
		case err != nil && ctx.Err() == nil:
			last = err.Error()
		case err == nil:
			last = fmt.Sprintf("%+v", c)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("rabbit: queue %q at last: %s: %w", name, last, err)
		}
	}
}

// connectionsExpr binds Connections to this node's AMQP connections: process, connection_name (<<>> if the client
// gave none), number of channels. One that ends meanwhile, or is not logged in yet, is left out.
const connectionsExpr = `
	Connections = lists:append([try rabbit_networking:connection_info(P, [client_properties, channels]) of
		[{_, Properties}, {_, Channels}] when is_list(Properties) ->
			[{P, case lists:keyfind(<<"connection_name">>, 1, Properties) of {_, longstr, N} -> N; _ -> <<>> end, Channels}];
		_ -> []
	catch _:_ -> [] end || P <- rabbit_networking:local_connections()])`

// Client is what a broker has open under one connection_name.
type Client struct {
	Connections int
	Channels    int
}

// Clients returns what AMQP clients have open on the broker, by the connection_name that they gave, or "" for those that
// gave none; in a cluster, what they have open on this node. It takes some 0.1 s. It returns ErrNotOwned for the broker
// from AMQP_URL.
func (b *Broker) Clients(ctx context.Context) (map[string]Client, error) {
	clients := map[string]Client{}
	err := b.eachConnection(ctx, func(name string, channels int) {
		c := clients[name]
		clients[name] = Client{Connections: c.Connections + 1, Channels: c.Channels + channels}
	})
	return clients, err
}

// Connections returns the names of the broker's AMQP connections, as Clients does, each as often as it is there.
func (b *Broker) Connections(ctx context.Context) ([]string, error) {
	names := []string{}
	err := b.eachConnection(ctx, func(name string, _ int) { names = append(names, name) })
	return names, err
}

func (b *Broker) eachConnection(ctx context.Context, do func(name string, channels int)) error {
	out, err := b.Eval(ctx, connectionsExpr+`,
		[[integer_to_list(C), " ", base64:encode(N), "\n"] || {_, N, C} <- Connections]`)
	if err != nil {
		return fmt.Errorf("rabbit: connections: %w", err)
	}
	for line := range strings.Lines(out) {
		channels, encoded, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, err1 := strconv.Atoi(channels)
		name, err2 := base64.StdEncoding.DecodeString(encoded)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("rabbit: connections: %w", err)
		}
		do(string(name), n)
	}
	return nil
}

// Leader returns the node that leads a quorum queue of the virtual host /, as this node has it, such as
// "rabbit@node1". It is an error if there is no leader now. It takes some 0.1 s, and a second where members do not
// answer. It returns ErrNoQueue if the queue does not exist and ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Leader(ctx context.Context, queue string) (node string, err error) {
	out, err := b.Eval(ctx, fmt.Sprintf(`
		case rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, %s)) of
			{error, not_found} -> "missing";
			{ok, Q} -> case amqqueue:get_type(Q) of
				rabbit_quorum_queue ->
					{Name, _} = amqqueue:get_pid(Q),
					[{members, Nodes}] = rabbit_quorum_queue:info(Q, [members]),
					{Here, There} = lists:partition(fun (N) -> N =:= node() end, Nodes),
					case ra:members([{Name, N} || N <- Here ++ There], 1000) of
						{ok, _, {_, Leader}} -> ["led by ", atom_to_list(Leader)];
						Other -> io_lib:format("it has none now: ~0p", [Other])
					end;
				Type -> ["it is a ", atom_to_list(Type)]
			end
		end`, erlangBinary(queue)))
	if err != nil {
		return "", fmt.Errorf("rabbit: leader of queue %q: %w", queue, err)
	}
	if out == "missing" {
		return "", fmt.Errorf("%w: %q", ErrNoQueue, queue)
	}
	node, led := strings.CutPrefix(out, "led by ")
	if !led {
		return "", fmt.Errorf("rabbit: leader of queue %q: %s", queue, out)
	}
	return node, nil
}

// DeleteQueue deletes a queue and what is in it, over AMQP, so on any broker. A queue that does not exist is
// no error.
func (b *Broker) DeleteQueue(ctx context.Context, name string) error {
	conn, err := amqp.DialConfig(b.url, amqp.Config{Dial: amqp.DefaultDial(handshakeTimeout)})
	if err != nil {
		return fmt.Errorf("rabbit: delete queue %q: %w", name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.CloseDeadline(time.Now()) })
	defer stop()
	ch, err := conn.Channel()
	if err == nil {
		_, err = ch.QueueDelete(name, false, false, false)
	}
	closeErr := conn.CloseDeadline(time.Now().Add(handshakeTimeout))
	if err != nil {
		return fmt.Errorf("rabbit: delete queue %q: %w", name, errors.Join(ctx.Err(), err))
	}
	return closeErr
}
