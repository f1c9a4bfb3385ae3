package consumer

import "context"

// Run runs h over cfg.Queue until ctx ends: it is [New] and [Consumer.Run] in one call, for programs that do not need
// Consumer.Ready and Consumer.Err.
func Run(ctx context.Context, conn Connection, cfg Config, h Handler) error {
	c, err := New(conn, cfg, h)
	if err != nil {
		return err
	}
	return c.Run(ctx)
}
