// Package ports finds free ports for the servers of tests.
package ports

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are chosen below the ephemeral range. Otherwise a client that redials a stopped server could get the server's
// port as its local port and connect to itself.
const (
	First = 20000
	Last  = 31999
)

// Free returns a free port of 127.0.0.1, the preferred one if possible. Zero means no preference.
func Free(preferred int) (int, error) {
	if preferred != 0 && IsFree(preferred) {
		return preferred, nil
	}
	for range 100 {
		if port := First + rand.IntN(Last-First+1); IsFree(port) {
			return port, nil
		}
	}
	return 0, errors.New("no free port found on 127.0.0.1")
}

// IsFree reports whether a server can listen on the port of 127.0.0.1.
func IsFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
