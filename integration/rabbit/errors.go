package rabbit

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotOwned reports that the broker came from AMQP_URL, so that it is not ours to stop or inspect.
var ErrNotOwned = errors.New("rabbit: the broker from AMQP_URL is not ours to control")

// Ways tells people how to have a RabbitMQ that Start finds, one way a line.
const Ways = `  start Docker               on Debian: sudo apt-get install docker.io mmdebstrap
  install RabbitMQ           on Debian: sudo apt-get install rabbitmq-server
  name a broker of yours     AMQP_URL=amqp://user:password@host:5672/`

// UnavailableError reports that there is no way to run a RabbitMQ on this machine. Its text is for people:
// it says what to install.
type UnavailableError struct {
	Docker error // why no container could be started
	Server error // why no private node could be started
}

// Error says what would make a broker available, and what was tried.
func (e *UnavailableError) Error() string {
	return "no RabbitMQ to run against. Do one of these:\n" + Ways + "\n" + e.Tried()
}

// Tried says what was tried, and why it did not work: a line for each.
func (e *UnavailableError) Tried() string {
	return fmt.Sprintf("tried Docker: %s\ntried rabbitmq-server: %s", oneLine(e.Docker), oneLine(e.Server))
}

// Unwrap returns both causes.
func (e *UnavailableError) Unwrap() []error { return []error{e.Docker, e.Server} }

// DockerRequiredError reports that what was asked for takes containers, and that there can be none. Its text is for
// people: it says what to install.
type DockerRequiredError struct {
	What   string // such as "a cluster of RabbitMQ nodes"
	Docker error  // why no container could be started
}

// Error says what would help, and what was tried.
func (e *DockerRequiredError) Error() string {
	return fmt.Sprintf(`%s needs Docker. Start it, on Debian: sudo apt-get install docker.io mmdebstrap
tried Docker: %s`, e.What, oneLine(e.Docker))
}

// Unwrap returns why no container could be started.
func (e *DockerRequiredError) Unwrap() error { return e.Docker }

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
