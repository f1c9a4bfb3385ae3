package rabbit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Options configures Start and StartCluster. Conf, Plugins, Files and Ports require a broker that is started for this
// process alone, so they are not supported with Keep or AMQP_URL.
type Options struct {
	// Progress receives lines of text about long operations. Nil means standard error.
	Progress io.Writer

	// Keep asks for the demo's broker, which outlives this process. It is named amqpkit-demo and listens on port 5672 of
	// 127.0.0.1, or on another port if 5672 is in use. An existing one is reused, by one process at a time. Close leaves
	// it running; StopKept removes it.
	Keep bool

	// InstalledOnly uses rabbitmq-server only if it is installed already. Packages for building the Docker image are
	// still installed.
	InstalledOnly bool

	// Conf is appended to the broker's configuration, in the format of rabbitmq.conf. If a key occurs twice, RabbitMQ
	// uses the last value.
	Conf string

	// Plugins lists the plugins to enable instead of the image's. Nil means the image's plugins, or none on a private node.
	Plugins []string

	// Files are added to the container before it starts, such as certificates or /etc/rabbitmq/advanced.config. The keys
	// are absolute paths; all users can read the files. They are not supported on a private node.
	Files map[string][]byte

	// Ports are TCP ports of the container to publish on 127.0.0.1 in addition to 5672 and 15672, such as 5671.
	// Broker.HostPort returns the mapping. They are not supported on a private node.
	Ports []int
}

func (o Options) withDefaults() Options {
	if o.Progress == nil {
		o.Progress = os.Stderr
	}
	return o
}

// customized reports whether the options require a broker that is started for this process alone.
func (o Options) customized() bool {
	return o.Conf != "" || o.Plugins != nil || o.containerOnly()
}

// containerOnly reports whether the options require a container.
func (o Options) containerOnly() bool { return len(o.Files) > 0 || len(o.Ports) > 0 }

func (o Options) validate() error {
	var errs []error
	if o.Keep && o.customized() {
		errs = append(errs, errors.New("rabbit: Options.Keep cannot be combined with Conf, Plugins, Files or Ports"))
	}
	for path := range o.Files {
		if !strings.HasPrefix(path, "/") {
			errs = append(errs, fmt.Errorf("rabbit: Options.Files: %q must be an absolute path", path))
		}
	}
	for _, port := range o.Ports {
		if port < 1 || port > 65535 {
			errs = append(errs, fmt.Errorf("rabbit: Options.Ports: %d must be from 1 to 65535", port))
		}
	}
	return errors.Join(errs...)
}

// enabledPlugins returns the content of RabbitMQ's file enabled_plugins.
func enabledPlugins(plugins []string) string { return "[" + strings.Join(plugins, ",") + "].\n" }
