package rabbit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// OfficialImage is the image that is used where a registry answers and $RABBITMQ_IMAGE names no other.
const OfficialImage = "rabbitmq:4.3-management"

const (
	pullTimeout      = time.Minute      // for the official image: longer takes an image built here
	namedPullTimeout = 10 * time.Minute // for $RABBITMQ_IMAGE: there is nothing else to try
)

// A choice has one field set: the way to get a broker.
type choice struct {
	url    string // of a broker that runs
	image  string // to start a container of
	server string // path of rabbitmq-server
}

// A host is what the choice asks of the machine.
type host interface {
	docker(ctx context.Context) error // nil if an engine answers
	hasImage(ctx context.Context, image string) bool
	pull(ctx context.Context, image string) error
	builtName(ctx context.Context) (image string, err error) // what build would return
	build(ctx context.Context) (image string, err error)
	server(ctx context.Context) (path string, err error)
}

// choose decides how to get a broker. What the user named (AMQP_URL, RABBITMQ_IMAGE) is taken or is an
// error: a test that silently ran on another broker would prove something else.
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
		return choice{}, fmt.Errorf("rabbit: no broker yet: %w", err)
	}
	return choice{}, &UnavailableError{Docker: dockerErr, Server: serverErr}
}

// chooseContainer is the choice for what takes containers, and so neither the broker from AMQP_URL nor a private node.
func chooseContainer(ctx context.Context, env func(string) string, h host, what string) (image string, err error) {
	if env("AMQP_URL") != "" {
		return "", fmt.Errorf("%w, and %s would be: unset AMQP_URL", ErrNotOwned, what)
	}
	image, err = chooseImage(ctx, env("AMQPKIT_DOCKER"), env("RABBITMQ_IMAGE"), h)
	switch {
	case err == nil:
		return image, nil
	case ctx.Err() != nil:
		return "", fmt.Errorf("rabbit: no broker yet: %w", ctx.Err())
	default:
		return "", &DockerRequiredError{What: what, Docker: err}
	}
}

func chooseServer(ctx context.Context, server string, h host) (path string, err error) {
	if server == "off" {
		return "", errors.New("switched off by AMQPKIT_SERVER=off")
	}
	return h.server(ctx)
}

func chooseImage(ctx context.Context, docker, named string, h host) (string, error) {
	if docker == "off" {
		return "", errors.New("switched off by AMQPKIT_DOCKER=off")
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
		// Built by an earlier run, since no registry answered. Asking again could take a minute each time.
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
