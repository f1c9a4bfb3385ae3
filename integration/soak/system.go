package soak

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqptest"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// A system is the broker and the proxies, one in front of each node.
type system struct {
	nodes   []*rabbit.Broker
	cluster *rabbit.Cluster // nil for a single node
	proxies []*amqptest.Proxy
}

// startSystem starts one node or a cluster.
func startSystem(ctx context.Context, nodes int, progress io.Writer) (*system, error) {
	s := &system{}
	o := rabbit.Options{Progress: progress}
	if nodes == 1 {
		b, err := rabbit.Start(ctx, o)
		if err != nil {
			return nil, err
		}
		s.nodes = []*rabbit.Broker{b}
	} else {
		c, err := rabbit.StartCluster(ctx, nodes, o)
		if err != nil {
			return nil, err
		}
		s.cluster, s.nodes = c, c.Nodes()
	}
	for _, b := range s.nodes {
		p, err := amqptest.NewProxy(b.URL())
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.proxies = append(s.proxies, p)
	}
	return s, nil
}

func (s *system) String() string {
	if s.cluster != nil {
		return s.cluster.String()
	}
	return s.nodes[0].String()
}

func (s *system) owned() bool { return s.nodes[0].Owned() }

func (s *system) urls() []string {
	var urls []string
	for _, p := range s.proxies {
		urls = append(urls, p.URL())
	}
	return urls
}

func (s *system) close() error {
	for _, p := range s.proxies {
		_ = p.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.cluster != nil {
		return s.cluster.Close(ctx)
	}
	return s.nodes[0].Close(ctx)
}

// counts returns the message counts of a queue. The number of unacknowledged messages is known only for a broker that
// the run started.
func (s *system) counts(ctx context.Context, queue string) (ready, unacked int, err error) {
	if s.owned() {
		c, err := s.nodes[0].Queue(ctx, queue)
		return c.Ready, c.Unacked, err
	}
	err = s.direct(func(ch *amqp.Channel) error {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		ready = q.Messages
		return err
	})
	return ready, 0, err
}

// direct calls do with a channel that bypasses the proxies.
func (s *system) direct(do func(*amqp.Channel) error) error {
	conn, err := amqp.DialConfig(s.nodes[0].URL(), amqp.Config{Dial: amqp.DefaultDial(10 * time.Second)})
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	return do(ch)
}

// clear deletes the queues and exchanges of the run from a broker that the run did not start.
func (s *system) clear(q *queues) error {
	if s.owned() {
		return nil
	}
	return s.direct(func(ch *amqp.Channel) error {
		var errs []error
		for _, name := range q.all() {
			_, err := ch.QueueDelete(name, false, false, false)
			errs = append(errs, err)
		}
		return errors.Join(append(errs, ch.ExchangeDelete(q.name("soak"), false, false))...)
	})
}

// connections returns the number of connections that the run's clients have at the broker, or -1 if it is unknown.
func (s *system) connections(ctx context.Context) int {
	sum := 0
	for _, b := range s.nodes {
		open, err := b.Clients(ctx)
		if err != nil {
			return -1
		}
		for _, name := range append([]string{visitor}, clients...) {
			sum += open[name].Connections
		}
	}
	return sum
}

// toolkit are the package prefixes in the stacks of goroutines of the toolkit and of amqp091-go.
var toolkit = [][]byte{
	[]byte("github.com/amqpkit/amqpkit."), []byte("github.com/amqpkit/amqpkit/producer."), []byte("github.com/amqpkit/amqpkit/consumer."),
	[]byte("github.com/amqpkit/amqpkit/internal/"), []byte("github.com/amqpkit/amqpkit/topology."), []byte("github.com/amqpkit/amqpkit/retry."), []byte("github.com/rabbitmq/amqp091-go."),
}

// toolkitGoroutines counts the goroutines of the toolkit and of amqp091-go.
func toolkitGoroutines() int {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return 0
	}
	sum := 0
	for group := range bytes.SplitSeq(b.Bytes(), []byte("\n\n")) { // "N @ addresses", followed by the stack
		for _, frame := range toolkit {
			if bytes.Contains(group, frame) {
				group = bytes.TrimLeft(group, "\n")
				n, _ := strconv.Atoi(string(group[:max(0, bytes.IndexByte(group, ' '))]))
				sum += n
				break
			}
		}
	}
	return sum
}

// tcpSockets counts the open TCP sockets of the process, or returns 0 if /proc is not available. Sockets to the Docker
// engine are Unix sockets and not counted.
func tcpSockets() int {
	tcp := map[string]bool{}
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if fields := strings.Fields(lines.Text()); len(fields) > 9 {
				tcp["socket:["+fields[9]+"]"] = true
			}
		}
		f.Close()
	}
	n := 0
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && tcp[to] {
			n++
		}
	}
	return n
}
