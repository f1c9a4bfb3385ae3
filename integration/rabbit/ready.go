package rabbit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	handshakeTimeout = 5 * time.Second
	pollInterval     = 50 * time.Millisecond
)

// awaitReady waits until the node accepts a login and returns its version. An open port is not enough, because Docker
// accepts connections before RabbitMQ does. It returns an error if ctx is done or the node exits.
func awaitReady(ctx context.Context, n node) (version string, err error) {
	for {
		if version, err = handshake(ctx, n.url()); err == nil {
			return version, nil
		}
		if exited := n.running(ctx); exited != nil && ctx.Err() == nil {
			return "", exited
		}
		if nextPoll(ctx) != nil {
			return "", fmt.Errorf("not ready in time: %w", err)
		}
	}
}

// handshake logs in and out, and returns the broker's version.
func handshake(ctx context.Context, url string) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if _, err := amqp.ParseURI(url); err != nil { // not wrapped: its text may contain the password
		return "", errors.New("invalid AMQP URI; write amqp://user:password@host:5672/vhost and percent-encode reserved characters")
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
		return "", errors.New("the broker's server-properties do not contain a version")
	}
	return version, nil
}

// nextPoll waits for pollInterval. It returns ctx's error if ctx is done first.
func nextPoll(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollInterval):
		return nil
	}
}

func localURL(port int) string {
	return "amqp://guest:guest@" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) + "/"
}
