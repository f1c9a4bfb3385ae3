package ports_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/amqpkit/amqpkit/integration/internal/ports"
)

func TestFreePortAvoidsUsedAndEphemeralPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, text, _ := net.SplitHostPort(l.Addr().String())
	used, _ := strconv.Atoi(text)
	port, err := ports.Free(used)
	if err != nil || port < ports.First || port > ports.Last {
		t.Errorf("Free = %d, %v; want a port from %d to %d", port, err, ports.First, ports.Last)
	}
}
