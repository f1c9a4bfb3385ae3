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

// Counts are the message and consumer counts of a queue.
type Counts struct {
	Ready     int // messages ready for delivery
	Unacked   int // unacknowledged deliveries
	Consumers int
}

// Queue returns the current counts of a queue in the virtual host /. It asks the queue itself, because the broker's
// statistics lag by seconds. Messages that a quorum queue holds back for a delayed retry are not counted. It takes about
// 0.1 s. It returns ErrNoQueue if the queue does not exist, and ErrNotOwned for the broker from AMQP_URL.
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

// AwaitQueue polls the queue's counts until they satisfy ok. After 30 s, or if ctx is done first, it returns an error
// that includes the last counts. It returns ErrNotOwned for the broker from AMQP_URL.
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
		if err := nextPoll(ctx); err != nil {
			return fmt.Errorf("rabbit: await queue %q: %w; last: %s", name, err, last)
		}
	}
}

// connectionsExpr binds the Erlang variable Connections to a list of this node's AMQP connections: process,
// connection_name (<<>> if unset) and number of channels. It omits connections that are not logged in yet or close
// meanwhile.
const connectionsExpr = `
	Connections = lists:append([try rabbit_networking:connection_info(P, [client_properties, channels]) of
		[{_, Properties}, {_, Channels}] when is_list(Properties) ->
			[{P, case lists:keyfind(<<"connection_name">>, 1, Properties) of {_, longstr, N} -> N; _ -> <<>> end, Channels}];
		_ -> []
	catch _:_ -> [] end || P <- rabbit_networking:local_connections()])`

// Client is the number of open connections and channels with the same connection_name.
type Client struct {
	Connections int
	Channels    int
}

// Clients returns the open AMQP connections and channels by connection_name, which is "" if the client did not set it. In
// a cluster it covers this node only. It takes about 0.1 s. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Clients(ctx context.Context) (map[string]Client, error) {
	clients := map[string]Client{}
	err := b.eachConnection(ctx, func(name string, channels int) {
		c := clients[name]
		clients[name] = Client{Connections: c.Connections + 1, Channels: c.Channels + channels}
	})
	return clients, err
}

// Connections returns the connection_name of every open AMQP connection, with duplicates. Its scope, duration and errors
// are the ones of Clients.
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

// Leader returns the name of the node that leads a quorum queue in the virtual host /, such as "rabbit@node1", as seen by
// this node. It returns an error if the queue has no leader at the moment, ErrNoQueue if the queue does not exist, and
// ErrNotOwned for the broker from AMQP_URL. It takes about 0.1 s, or a second if members do not answer.
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
						Other -> io_lib:format("no leader: ~0p", [Other])
					end;
				Type -> ["not a quorum queue but a ", atom_to_list(Type)]
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

// DeleteQueue deletes a queue and its messages. It does nothing if the queue does not exist. It uses AMQP, so it also
// works on the broker from AMQP_URL.
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
