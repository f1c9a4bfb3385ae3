package rabbit

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are chosen below the ephemeral range. Otherwise a client that redials a stopped broker could get the broker's
// port as its local port and connect to itself.
const (
	firstPort = 20000
	lastPort  = 31999
)

// freePort returns a free port of 127.0.0.1, the preferred one if possible. Zero means no preference.
func freePort(preferred int) (int, error) {
	if preferred != 0 && isFree(preferred) {
		return preferred, nil
	}
	for range 100 {
		if port := firstPort + rand.IntN(lastPort-firstPort+1); isFree(port) {
			return port, nil
		}
	}
	return 0, errors.New("rabbit: no free port found on 127.0.0.1")
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func localURL(port int) string {
	return "amqp://guest:guest@" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) + "/"
}
