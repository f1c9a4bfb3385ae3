package rabbit

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Kill ends the broker with SIGKILL, as a crash would, paused or not, and returns when it has ended. Its data is kept
// for StartAgain: what was confirmed on durable queues is there, but for quorum queues that were declared within the last
// second (see Flush). It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Kill(ctx context.Context) error {
	return b.do("kill", func() error { return b.node.kill(ctx) })
}

// Flush makes the node write down the quorum queues that it knows. RabbitMQ does so by itself half a second after a
// declaration: a node that is killed before has lost its part of the queue when it starts again, with all messages, also
// those that it confirmed (ra_directory's names.dets; seen on 4.3.6). Call it between a declaration and a Kill. It takes
// some 0.1 s. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Flush(ctx context.Context) error {
	if _, err := b.Eval(ctx, `[ok = dets:sync(T) || T <- dets:all()], ""`); err != nil {
		return fmt.Errorf("rabbit: flush: %w", err)
	}
	return nil
}

// Pause stops all processes of the broker where they are, as SIGSTOP does: connections stay open, and nobody answers
// or reads. Until Unpause nothing else works on the broker but Kill and Close. It returns ErrNotOwned for the broker
// from AMQP_URL.
func (b *Broker) Pause(ctx context.Context) error {
	return b.do("pause", func() error { return b.node.freeze(ctx) })
}

// Unpause lets a paused broker go on.
func (b *Broker) Unpause(ctx context.Context) error {
	return b.do("unpause", func() error { return b.node.thaw(ctx) })
}

func (b *Broker) do(what string, op func() error) error {
	if b.node == nil {
		return ErrNotOwned
	}
	if err := op(); err != nil {
		return fmt.Errorf("rabbit: %s %s: %w", what, b, err)
	}
	return nil
}

// MemoryAlarm raises a real memory alarm, by lowering vm_memory_high_watermark, or clears it, by giving that the value
// it had. It returns when the alarm is in force, or no more. RabbitMQ then blocks each connection with its next publish;
// in a cluster, those of all nodes. Raising it twice is raising it once; a restart of the node clears it. It takes some
// 0.1 s. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) MemoryAlarm(ctx context.Context, on bool) error {
	// The old value is kept on the node: who clears the alarm need not be who raised it.
	expr := `
		case application:get_env(rabbit, amqpkit_watermark) of
			{ok, W} ->
				vm_memory_monitor:set_vm_memory_high_watermark(W),
				application:unset_env(rabbit, amqpkit_watermark);
			undefined -> ok
		end`
	if on {
		expr = `
		case application:get_env(rabbit, amqpkit_watermark) of
			{ok, _} -> ok;
			undefined ->
				application:set_env(rabbit, amqpkit_watermark, vm_memory_monitor:get_vm_memory_high_watermark()),
				vm_memory_monitor:set_vm_memory_high_watermark(0.0001)
		end`
	}
	// Asked after the change, the alarm handler answers after having heard of it.
	out, err := b.Eval(ctx, expr+`,
		atom_to_list(lists:keymember({resource_limit, memory, node()}, 1, rabbit_alarm:get_alarms()))`)
	if err == nil && out != strconv.FormatBool(on) {
		err = fmt.Errorf("it is in force: %s", out)
	}
	if err != nil {
		return fmt.Errorf("rabbit: memory alarm %t: %w", on, err)
	}
	return nil
}

// CloseConnections makes the broker close every AMQP connection with 320 CONNECTION_FORCED and the reason; in a
// cluster, those of this node. One that was opened a moment ago may be missed. It takes some 0.1 s. It returns
// ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) CloseConnections(ctx context.Context, reason string) error {
	_, err := b.closeConnections(ctx, "true", reason)
	return err
}

// CloseConnection does the same to the connections whose connection_name is name, and returns how many there were.
func (b *Broker) CloseConnection(ctx context.Context, name, reason string) (closed int, err error) {
	return b.closeConnections(ctx, "Name =:= "+erlangBinary(name), reason)
}

// closeConnections closes the connections of which the Erlang expression cond, of their Name, is true.
func (b *Broker) closeConnections(ctx context.Context, cond, reason string) (closed int, err error) {
	out, err := b.Eval(ctx, connectionsExpr+`,
		["x" || {P, Name, _} <- Connections, `+cond+`, rabbit_networking:close_connection(P, `+erlangBinary(reason)+`) =:= ok]`)
	if err != nil {
		return 0, fmt.Errorf("rabbit: close connections: %w", err)
	}
	return strings.Count(out, "x"), nil
}
