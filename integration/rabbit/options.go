package rabbit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Options say what kind of broker Start is to get. Conf, Plugins, Files and Ports shape a broker that is started for
// this process: a broker that others use (Keep, or the one from AMQP_URL) is taken as it is.
type Options struct {
	// Progress is told, line by line, what takes long. Nil means standard error.
	Progress io.Writer

	// Keep asks for a broker that outlives this process: it is named amqpkit-demo, listens on port 5672 of
	// 127.0.0.1 if that is free, and is reused if it is there, by one process at a time. Close leaves it running;
	// StopKept ends it.
	Keep bool

	// InstalledOnly takes a rabbitmq-server only if it is installed, and has none installed. What Docker's image is built
	// with is installed all the same.
	InstalledOnly bool

	// Conf is appended to the broker's configuration, in the format of rabbitmq.conf. Of two lines with the same key
	// RabbitMQ takes the later one.
	Conf string

	// Plugins are enabled, and no others. Nil means those that the image enables; a private node has none then.
	Plugins []string

	// Files are put into the container before it starts: their contents by absolute path, readable by all.
	// Certificates, and /etc/rabbitmq/advanced.config, come this way. A private node takes none.
	Files map[string][]byte

	// Ports are TCP ports of the container besides 5672 that are published on 127.0.0.1, such as 5671 or 15672.
	// Broker.HostPort tells where. A private node takes none.
	Ports []int
}

// withDefaults is what Start and StartCluster make of them first.
func (o Options) withDefaults() Options {
	if o.Progress == nil {
		o.Progress = os.Stderr
	}
	return o
}

// shaped reports whether the options ask for more than any broker would give.
func (o Options) shaped() bool {
	return o.Conf != "" || o.Plugins != nil || o.containerOnly()
}

// containerOnly reports whether the options ask for what only a container can have.
func (o Options) containerOnly() bool { return len(o.Files) > 0 || len(o.Ports) > 0 }

func (o Options) validate() error {
	var errs []error
	if o.Keep && o.shaped() {
		errs = append(errs, errors.New("rabbit: Keep does not go with Conf, Plugins, Files or Ports"))
	}
	for path := range o.Files {
		if !strings.HasPrefix(path, "/") {
			errs = append(errs, fmt.Errorf("rabbit: Files: %q is no absolute path", path))
		}
	}
	for _, port := range o.Ports {
		if port < 1 || port > 65535 {
			errs = append(errs, fmt.Errorf("rabbit: Ports: %d is no port", port))
		}
	}
	return errors.Join(errs...)
}

// enabledPlugins is the content of RabbitMQ's file of that name.
func enabledPlugins(plugins []string) string { return "[" + strings.Join(plugins, ",") + "].\n" }
