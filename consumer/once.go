package consumer

import "context"

// Run creates a Consumer with [New] and calls [Consumer.Run]. Use it in programs that do not need Consumer.Ready and
// Consumer.Err.
func Run(ctx context.Context, conn Connection, cfg Config, h Handler) error {
	c, err := New(conn, cfg, h)
	if err != nil {
		return err
	}
	return c.Run(ctx)
}
