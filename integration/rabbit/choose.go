package rabbit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// OfficialImage is the default image. RABBITMQ_IMAGE overrides it.
const OfficialImage = "rabbitmq:4.3-management"

const (
	pullTimeout      = time.Minute      // for the official image: building one locally is faster than a longer pull
	namedPullTimeout = 10 * time.Minute // for RABBITMQ_IMAGE, which has no alternative
)

// A choice states how to run a broker. Exactly one field is set.
type choice struct {
	url    string // of a running broker
	image  string // for a container
	server string // path of rabbitmq-server
}

// A host provides the ways to run a broker on a machine.
type host interface {
	docker(ctx context.Context) error // returns nil if a Docker engine responds
	hasImage(ctx context.Context, image string) bool
	pull(ctx context.Context, image string) error
	builtName(ctx context.Context) (image string, err error) // the name of the image from build, without building it
	build(ctx context.Context) (image string, err error)
	server(ctx context.Context) (path string, err error)
}

// choose selects how to run a broker. If the user's AMQP_URL or RABBITMQ_IMAGE cannot be used, choose returns an error
// rather than an alternative: tests must not silently run on a different broker.
func choose(ctx context.Context, env func(string) string, h host) (choice, error) {
	if url := env("AMQP_URL"); url != "" {
		return choice{url: url}, nil
	}
	named := env("RABBITMQ_IMAGE")
	image, dockerErr := chooseImage(ctx, env("AMQPKIT_DOCKER"), named, h)
	if dockerErr == nil {
		return choice{image: image}, nil
	}
	if named != "" {
		return choice{}, fmt.Errorf("rabbit: RABBITMQ_IMAGE=%s: %w", named, dockerErr)
	}
	server, serverErr := chooseServer(ctx, env("AMQPKIT_SERVER"), h)
	if serverErr == nil {
		return choice{server: server}, nil
	}
	if err := ctx.Err(); err != nil {
		return choice{}, fmt.Errorf("rabbit: interrupted before a broker was found: %w", err)
	}
	return choice{}, &UnavailableError{Docker: dockerErr, Server: serverErr}
}

// chooseContainer selects an image for features that only containers support. what names the feature in errors.
func chooseContainer(ctx context.Context, env func(string) string, h host, what string) (image string, err error) {
	if env("AMQP_URL") != "" {
		return "", fmt.Errorf("%w: %s; unset AMQP_URL", ErrNotOwned, what)
	}
	image, err = chooseImage(ctx, env("AMQPKIT_DOCKER"), env("RABBITMQ_IMAGE"), h)
	switch {
	case err == nil:
		return image, nil
	case ctx.Err() != nil:
		return "", fmt.Errorf("rabbit: interrupted before a broker was found: %w", ctx.Err())
	default:
		return "", &DockerRequiredError{What: what, Docker: err}
	}
}

func chooseServer(ctx context.Context, server string, h host) (path string, err error) {
	if server == "off" {
		return "", errors.New("disabled by AMQPKIT_SERVER=off")
	}
	return h.server(ctx)
}

func chooseImage(ctx context.Context, docker, named string, h host) (string, error) {
	if docker == "off" {
		return "", errors.New("disabled by AMQPKIT_DOCKER=off")
	}
	if err := h.docker(ctx); err != nil {
		return "", err
	}
	image, limit := OfficialImage, pullTimeout
	if named != "" {
		image, limit = named, namedPullTimeout
	}
	if h.hasImage(ctx, image) {
		return image, nil
	}
	if named == "" {
		// An earlier run built an image because the pull failed. Do not try the pull again: it may take a minute.
		if built, err := h.builtName(ctx); err == nil && h.hasImage(ctx, built) {
			return built, nil
		}
	}
	pulling, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := h.pull(pulling, image)
	if err == nil {
		return image, nil
	}
	if named != "" {
		return "", fmt.Errorf("pull: %w", err)
	}
	return h.build(ctx)
}
