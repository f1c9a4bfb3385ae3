package rabbit

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotOwned reports an operation that is not supported on the broker from AMQP_URL, which this package only connects
// to.
var ErrNotOwned = errors.New("rabbit: not supported on the broker from AMQP_URL")

// Ways lists the ways to provide a RabbitMQ to Start, one per line, as help text for users.
const Ways = `  start Docker               on Debian: sudo apt-get install docker.io mmdebstrap
  install RabbitMQ           on Debian: sudo apt-get install rabbitmq-server
  use your own broker        AMQP_URL=amqp://user:password@host:5672/`

// UnavailableError reports that RabbitMQ cannot be run on this machine. Its message is for users and names the packages to
// install.
type UnavailableError struct {
	Docker error // why no container could be started
	Server error // why no private node could be started
}

// Error returns Ways and Tried.
func (e *UnavailableError) Error() string {
	return "no RabbitMQ available. Do one of the following:\n" + Ways + "\n" + e.Tried()
}

// Tried returns the failed attempts and their causes, one per line.
func (e *UnavailableError) Tried() string {
	return fmt.Sprintf("tried Docker: %s\ntried rabbitmq-server: %s", oneLine(e.Docker), oneLine(e.Server))
}

// Unwrap returns both causes.
func (e *UnavailableError) Unwrap() []error { return []error{e.Docker, e.Server} }

// DockerRequiredError reports that a feature needs containers, which cannot be started. Its message is for users and names
// the packages to install.
type DockerRequiredError struct {
	What   string // such as "a cluster of RabbitMQ nodes"
	Docker error  // why no container could be started
}

// Error returns the feature, the packages to install, and the cause.
func (e *DockerRequiredError) Error() string {
	return fmt.Sprintf(`%s needs Docker. To install it on Debian: sudo apt-get install docker.io mmdebstrap
tried Docker: %s`, e.What, oneLine(e.Docker))
}

// Unwrap returns the cause.
func (e *DockerRequiredError) Unwrap() error { return e.Docker }

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
