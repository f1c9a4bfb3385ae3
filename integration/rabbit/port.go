package rabbit

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that systems give to outgoing connections. From inside it, a
// client that redials a stopped broker could be given the broker's own port and connect to itself.
const (
	firstPort = 20000
	lastPort  = 31999
)

// freePort returns a port of 127.0.0.1 on which nothing listens: the preferred one if it is free.
func freePort(preferred int) (int, error) {
	if preferred != 0 && isFree(preferred) {
		return preferred, nil
	}
	for range 100 {
		if port := firstPort + rand.IntN(lastPort-firstPort+1); isFree(port) {
			return port, nil
		}
	}
	return 0, errors.New("rabbit: found no free port on 127.0.0.1")
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
