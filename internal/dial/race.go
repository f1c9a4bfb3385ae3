package dial

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

// stagger is the time that a TCP connect may take before the next address is tried concurrently. RFC 8305
// recommends it.
const stagger = 250 * time.Millisecond

var errNoAddress = errors.New("no address is left")

// A race opens TCP connections to the addresses of a host in order. It does not wait for a slow one before it
// tries the next.
type race struct {
	ctx     context.Context
	cancel  context.CancelFunc
	dial    dialer
	waiting []string // addresses that were not tried
	flying  []string // addresses that are dialled now
	results chan dialled
}

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

type dialled struct {
	addr string
	nc   net.Conn
	err  error
}

// race resolves the host of t. A custom Dialer gets its name instead.
func (c *Config) race(ctx context.Context, t Target) (*race, error) {
	addrs, dial := []string{t.addr}, c.Dialer
	if dial == nil {
		dial = new(net.Dialer).DialContext
		ips, err := net.DefaultResolver.LookupIPAddr(ctx, t.host)
		if err != nil {
			return nil, err
		}
		_, port, _ := net.SplitHostPort(t.addr)
		addrs = interleave(ips, port)
	}
	r := &race{dial: dial, waiting: addrs, results: make(chan dialled, len(addrs))}
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r, nil
}

// interleave returns the addresses in random order, with IPv6 and IPv4 in turn. The family that the resolver
// prefers is first.
func interleave(ips []net.IPAddr, port string) []string {
	is4 := func(ip net.IPAddr) bool { return ip.IP.To4() != nil }
	lead := is4(ips[0])
	rand.Shuffle(len(ips), func(i, j int) { ips[i], ips[j] = ips[j], ips[i] })
	var families [2][]string
	for _, ip := range ips {
		family := 0
		if is4(ip) != lead {
			family = 1
		}
		families[family] = append(families[family], net.JoinHostPort(ip.String(), port))
	}
	var all []string
	for i := range ips {
		for _, f := range families {
			if i < len(f) {
				all = append(all, f[i])
			}
		}
	}
	return all
}

// next returns the next TCP connection, the error of an address, or errNoAddress at the end.
func (r *race) next() (net.Conn, error) {
	for {
		if len(r.flying) == 0 && !r.begin() {
			return nil, errNoAddress
		}
		var late <-chan time.Time
		if len(r.waiting) > 0 {
			late = time.After(stagger)
		}
		select {
		case d := <-r.results:
			i := slices.Index(r.flying, d.addr)
			r.flying = slices.Delete(r.flying, i, i+1)
			return d.nc, d.err
		case <-late:
			r.begin()
		}
	}
}

// left returns how many addresses may still give a connection.
func (r *race) left() int { return len(r.flying) + len(r.waiting) }

func (r *race) begin() bool {
	if len(r.waiting) == 0 {
		return false
	}
	addr := r.waiting[0]
	r.waiting = r.waiting[1:]
	r.flying = append(r.flying, addr)
	ctx := r.ctx
	go func() {
		nc, err := r.dial(ctx, "tcp", addr)
		r.results <- dialled{addr, nc, err}
	}()
	return true
}

// again dials the remaining addresses once more within ctx. A connection that is already up may have been closed by a
// peer that waited too long.
func (r *race) again(ctx context.Context) {
	r.waiting = append(slices.Clone(r.flying), r.waiting...)
	r.close()
	r.ctx, r.cancel = context.WithCancel(ctx)
}

// close cancels pending dials and closes unused connections.
func (r *race) close() {
	r.cancel()
	for range r.flying {
		if d := <-r.results; d.nc != nil {
			_ = d.nc.Close()
		}
	}
	r.flying = nil
}
