package servers

import (
	"errors"
	"fmt"
)

// ErrNotOwned reports that a server from AMQPKIT_POSTGRES or AMQPKIT_MARIADB cannot be killed or restarted.
var ErrNotOwned = errors.New("servers: the server was not started by this process")

var errInvalidDSN = errors.New("invalid DSN")

// A MissingError reports that a server is not installed.
type MissingError struct {
	Server   string // such as "PostgreSQL"
	Program  string // that was not found
	Packages string // the packages of Debian and Ubuntu to install, separated by spaces
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("servers: %s is not installed (%s was not found). To install it on Debian or Ubuntu: sudo apt-get install %s",
		e.Server, e.Program, e.Packages)
}
