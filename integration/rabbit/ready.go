package rabbit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	handshakeTimeout = 5 * time.Second
	pollInterval     = 50 * time.Millisecond
)

// awaitReady returns the broker's version once it takes a login. An open port proves nothing: Docker's
// accepts before RabbitMQ does. It gives up when ctx ends or the node does.
func awaitReady(ctx context.Context, n node) (version string, err error) {
	for {
		if version, err = handshake(ctx, n.url()); err == nil {
			return version, nil
		}
		if gone := n.running(ctx); gone != nil && ctx.Err() == nil {
			return "", gone
		}
		if pause(ctx) != nil {
			return "", fmt.Errorf("not ready in time: %w", err)
		}
	}
}

// handshake logs in, out again, and returns the version that the broker states.
func handshake(ctx context.Context, url string) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if _, err := amqp.ParseURI(url); err != nil { // whose text may hold the password
		return "", errors.New("it is not an AMQP URI; write amqp://user:password@host:5672/vhost, with reserved characters percent-encoded")
	}
	conn, err := amqp.DialConfig(url, amqp.Config{
		Heartbeat: 10 * time.Second,
		Dial: func(network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			deadline, _ := ctx.Deadline()
			return c, c.SetDeadline(deadline)
		},
	})
	if err != nil {
		return "", err
	}
	version, _ = conn.Properties["version"].(string)
	if err := conn.CloseDeadline(time.Now().Add(handshakeTimeout)); err != nil && !errors.Is(err, amqp.ErrClosed) {
		return "", err
	}
	if version == "" {
		return "", errors.New("the broker states no version")
	}
	return version, nil
}

// pause waits for one interval of polling, or returns ctx's error.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollInterval):
		return nil
	}
}
