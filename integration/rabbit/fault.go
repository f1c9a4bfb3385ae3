package rabbit

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Kill sends SIGKILL to the broker, paused or not, and waits until it has exited. Durable queues and their confirmed
// messages are kept for Start, except quorum queues that were declared within the last second: see Flush. It returns
// ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Kill(ctx context.Context) error {
	return b.do("kill", func() error { return b.node.kill(ctx) })
}

// Flush writes the node's list of quorum queues to disk (names.dets of ra_directory). RabbitMQ itself does so about half
// a second after a declaration. A node that is killed earlier loses its member of the queue with all messages, even
// confirmed ones (seen on 4.3.6). Call Flush between a declaration and Kill. It takes about 0.1 s. It returns ErrNotOwned
// for the broker from AMQP_URL.
func (b *Broker) Flush(ctx context.Context) error {
	if _, err := b.Eval(ctx, `[ok = dets:sync(T) || T <- dets:all()], ""`); err != nil {
		return fmt.Errorf("rabbit: flush: %w", err)
	}
	return nil
}

// Pause suspends all processes of the broker, as SIGSTOP does. Connections stay open, but the broker neither reads nor
// answers. Until Unpause, only Kill and Close work. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Pause(ctx context.Context) error {
	return b.do("pause", func() error { return b.node.pause(ctx) })
}

// Unpause resumes a paused broker. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) Unpause(ctx context.Context) error {
	return b.do("unpause", func() error { return b.node.unpause(ctx) })
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

// MemoryAlarm raises a memory alarm by lowering vm_memory_high_watermark, or clears it by restoring the previous value.
// It returns once the alarm is raised or cleared. While it is raised, RabbitMQ blocks each connection at its next
// publish, in a cluster on all nodes. Raising a raised alarm has no effect. A restart of the node clears the alarm.
// MemoryAlarm takes about 0.1 s. It returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) MemoryAlarm(ctx context.Context, on bool) error {
	// The previous value is stored on the node, so that any process can clear the alarm.
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
	// The alarm handler processes the change before this query.
	out, err := b.Eval(ctx, expr+`,
		atom_to_list(lists:keymember({resource_limit, memory, node()}, 1, rabbit_alarm:get_alarms()))`)
	if err == nil && out != strconv.FormatBool(on) {
		err = fmt.Errorf("alarm raised = %s after the change", out)
	}
	if err != nil {
		return fmt.Errorf("rabbit: memory alarm %t: %w", on, err)
	}
	return nil
}

// CloseConnections makes the broker close all AMQP connections with 320 CONNECTION_FORCED and the reason. In a cluster
// it closes the ones to this node. It may miss a connection that was opened immediately before. It takes about 0.1 s. It
// returns ErrNotOwned for the broker from AMQP_URL.
func (b *Broker) CloseConnections(ctx context.Context, reason string) error {
	_, err := b.closeConnections(ctx, "true", reason)
	return err
}

// CloseConnection is like CloseConnections for the connections with the given connection_name. It returns their number.
func (b *Broker) CloseConnection(ctx context.Context, name, reason string) (closed int, err error) {
	return b.closeConnections(ctx, "Name =:= "+erlangBinary(name), reason)
}

// closeConnections closes the connections for which the Erlang expression cond is true. cond may use the variable Name.
func (b *Broker) closeConnections(ctx context.Context, cond, reason string) (closed int, err error) {
	out, err := b.Eval(ctx, connectionsExpr+`,
		["x" || {P, Name, _} <- Connections, `+cond+`, rabbit_networking:close_connection(P, `+erlangBinary(reason)+`) =:= ok]`)
	if err != nil {
		return 0, fmt.Errorf("rabbit: close connections: %w", err)
	}
	return strings.Count(out, "x"), nil
}
