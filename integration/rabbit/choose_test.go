package rabbit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fakeHost is a host on which only the operations in can succeed.
type fakeHost struct {
	can   []string // "docker", "pull IMAGE", "has IMAGE", "build", "server"
	hangs bool     // pull blocks until its context is done
	did   []string
}

func (h *fakeHost) do(what string) error {
	h.did = append(h.did, what)
	if slices.Contains(h.can, what) {
		return nil
	}
	return errors.New("cannot " + what)
}

func (h *fakeHost) docker(context.Context) error { return h.do("docker") }

func (h *fakeHost) hasImage(_ context.Context, image string) bool { return h.do("has "+image) == nil }

func (h *fakeHost) pull(ctx context.Context, image string) error {
	if h.hangs {
		<-ctx.Done()
		h.did = append(h.did, "pull timed out")
		return ctx.Err()
	}
	return h.do("pull " + image)
}

func (h *fakeHost) builtName(context.Context) (string, error) { return "built", nil }

func (h *fakeHost) build(context.Context) (string, error) { return "built", h.do("build") }

func (h *fakeHost) server(context.Context) (string, error) { return "/rabbitmq-server", h.do("server") }

func TestChooseSelectsFirstAvailableOption(t *testing.T) {
	official := "has " + OfficialImage
	for name, test := range map[string]struct {
		env  map[string]string
		can  []string
		want choice
		did  []string // in this order
	}{
		"AMQP_URL": {
			env:  map[string]string{"AMQP_URL": "amqp://b/", "RABBITMQ_IMAGE": "mine"},
			can:  []string{"docker", "has mine", "server"},
			want: choice{url: "amqp://b/"},
		},
		"named image, present": {
			env:  map[string]string{"RABBITMQ_IMAGE": "mine"},
			can:  []string{"docker", "has mine", official},
			want: choice{image: "mine"},
			did:  []string{"docker", "has mine"},
		},
		"named image, pulled": {
			env:  map[string]string{"RABBITMQ_IMAGE": "mine"},
			can:  []string{"docker", "pull mine", official},
			want: choice{image: "mine"},
			did:  []string{"docker", "has mine", "pull mine"},
		},
		"official image, present": {
			can:  []string{"docker", official, "build", "server"},
			want: choice{image: OfficialImage},
			did:  []string{"docker", official},
		},
		"official image, pulled": {
			can:  []string{"docker", "pull " + OfficialImage, "build", "server"},
			want: choice{image: OfficialImage},
			did:  []string{"docker", official, "has built", "pull " + OfficialImage},
		},
		"image built earlier": {
			can:  []string{"docker", "has built", "pull " + OfficialImage, "server"},
			want: choice{image: "built"},
			did:  []string{"docker", official, "has built"},
		},
		"image built now": {
			can:  []string{"docker", "build", "server"},
			want: choice{image: "built"},
			did:  []string{"docker", official, "has built", "pull " + OfficialImage, "build"},
		},
		"node, without an image": {
			can:  []string{"docker", "server"},
			want: choice{server: "/rabbitmq-server"},
			did:  []string{"docker", official, "has built", "pull " + OfficialImage, "build", "server"},
		},
		"node, without Docker": {
			can:  []string{"server"},
			want: choice{server: "/rabbitmq-server"},
			did:  []string{"docker", "server"},
		},
		"node, Docker disabled": {
			env:  map[string]string{"AMQPKIT_DOCKER": "off"},
			can:  []string{"docker", official, "server"},
			want: choice{server: "/rabbitmq-server"},
			did:  []string{"server"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := &fakeHost{can: test.can}
			got, err := choose(t.Context(), func(key string) string { return test.env[key] }, h)
			if err != nil || got != test.want {
				t.Errorf("choose = %+v, %v; want %+v", got, err, test.want)
			}
			if !slices.Equal(h.did, test.did) {
				t.Errorf("did %q, want %q", h.did, test.did)
			}
		})
	}
}

func TestChooseDoesNotReplaceNamedImage(t *testing.T) {
	h := &fakeHost{can: []string{"docker", "has " + OfficialImage, "build", "server"}}
	env := map[string]string{"RABBITMQ_IMAGE": "mine"}
	got, err := choose(t.Context(), func(key string) string { return env[key] }, h)
	if err == nil || !strings.Contains(err.Error(), "RABBITMQ_IMAGE=mine") {
		t.Errorf("choose = %+v, %v; want an error with the name of the image", got, err)
	}
}

func TestChooseLimitsPullToAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{can: []string{"docker", "build"}, hangs: true}
		began := time.Now()
		got, err := choose(t.Context(), func(string) string { return "" }, h)
		if err != nil || got.image != "built" {
			t.Errorf("choose = %+v, %v; want the built image", got, err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %s, want a minute", took)
		}
	})
}

func TestChooseErrorListsPackagesToInstall(t *testing.T) {
	_, err := choose(t.Context(), func(string) string { return "" }, new(fakeHost))
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) {
		t.Fatalf("choose = %v, want an UnavailableError", err)
	}
	for _, want := range []string{
		"apt-get install docker.io", "apt-get install rabbitmq-server", "AMQP_URL=",
		"tried Docker: cannot docker", "tried rabbitmq-server: cannot server",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not contain %q:\n%s", want, err)
		}
	}
}

func TestChooseSkipsDisabledOptions(t *testing.T) {
	env := map[string]string{"AMQPKIT_DOCKER": "off", "AMQPKIT_SERVER": "off"}
	h := &fakeHost{can: []string{"docker", "has " + OfficialImage, "server"}}
	_, err := choose(t.Context(), func(key string) string { return env[key] }, h)
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) || len(h.did) > 0 {
		t.Errorf("choose = %v after %q, want an UnavailableError without any attempt", err, h.did)
	}
	for _, off := range []string{"AMQPKIT_DOCKER=off", "AMQPKIT_SERVER=off"} {
		if !strings.Contains(err.Error(), off) {
			t.Errorf("error does not contain %s:\n%v", off, err)
		}
	}
}

func TestChooseReturnsContextError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := choose(ctx, func(string) string { return "" }, new(fakeHost))
	_, containerErr := chooseContainer(ctx, func(string) string { return "" }, new(fakeHost), "a cluster")
	for _, err := range []error{err, containerErr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v, want context.Canceled", err)
		}
	}
}
