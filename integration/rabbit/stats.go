package rabbit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
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
	out, err := b.eval(ctx, fmt.Sprintf(`
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

// Connections returns the names of the broker's AMQP connections: the connection_name that the client
// gave, or "" if it gave none. It takes some 0.1 s. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Connections(ctx context.Context) ([]string, error) {
	out, err := b.eval(ctx, `
		[case lists:keyfind(<<"connection_name">>, 1, proplists:get_value(client_properties, I, [])) of
			{_, longstr, N} -> [base64:encode(N), "\n"];
			_ -> "\n"
		end || I <- rabbit_networking:connection_info_all([client_properties])]`)
	if err != nil {
		return nil, fmt.Errorf("rabbit: connections: %w", err)
	}
	names := []string{}
	for line := range strings.Lines(out) {
		name, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("rabbit: connections: %w", err)
		}
		names = append(names, string(name))
	}
	return names, nil
}

// CloseConnections makes the broker close every AMQP connection with 320 CONNECTION_FORCED and the reason. It takes
// some 0.1 s. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) CloseConnections(ctx context.Context, reason string) error {
	_, err := b.eval(ctx, fmt.Sprintf(`
		[rabbit_networking:close_connection(P, %s) || P <- rabbit_networking:connections()], ""`, erlangBinary(reason)))
	if err != nil {
		return fmt.Errorf("rabbit: close connections: %w", err)
	}
	return nil
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

// evalScript evaluates an Erlang expression on the node. erl_call does that in a tenth of the time that
// rabbitmqctl takes, but not every image has it.
const evalScript = `
if command -v erl_call >/dev/null 2>&1; then
	cookie=$(cat "$HOME/.erlang.cookie" 2>/dev/null || cat /var/lib/rabbitmq/.erlang.cookie) || exit
	printf '%s.\n' "$1" | erl_call -r -n "${RABBITMQ_NODENAME:-rabbit@$(hostname)}" -c "$cookie" -e
else
	rabbitmqctl --quiet eval "$1."
fi`

// evalResult finds the result in what either of them prints.
var evalResult = regexp.MustCompile(`"amqpkit:([A-Za-z0-9+/=]*)"`)

// eval returns the value of an Erlang expression that yields iodata.
func (b *Broker) eval(ctx context.Context, expr string) (string, error) {
	if b.node == nil {
		return "", ErrNotOwned
	}
	expr = `"amqpkit:" ++ binary_to_list(base64:encode(iolist_to_binary(begin ` + expr + ` end)))`
	out, err := b.node.run(ctx, "sh", "-c", evalScript, "sh", expr)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(out))
	}
	match := evalResult.FindStringSubmatch(out)
	if match == nil {
		return "", errors.New(strings.TrimSpace(out))
	}
	value, err := base64.StdEncoding.DecodeString(match[1])
	return string(value), err
}

// erlangBinary writes s as an Erlang binary, byte by byte, so that nothing in it needs quoting.
func erlangBinary(s string) string {
	bytes := make([]string, len(s))
	for i := range len(s) {
		bytes[i] = fmt.Sprint(s[i])
	}
	return "<<" + strings.Join(bytes, ",") + ">>"
}
