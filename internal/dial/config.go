package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A Config is the part of amqpkit.Config that dialling needs, with defaults filled in. Errors name the fields of amqpkit.Config.
type Config struct {
	Name      string
	External  bool
	TLS       *tls.Config
	Heartbeat time.Duration
	Timeout   time.Duration                                                     // of one URL
	Login     func(ctx context.Context) (Login, error)                          // nil: the URL's
	Dialer    func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer, for each address of the host
}

// A Login is a user name with its password or token.
type Login struct {
	Username string
	Password string
	Expires  time.Time // zero: never
}

// Targets returns the parsed URLs, or every fault of the URLs and the Config.
func (c *Config) Targets(urls []string) ([]Target, error) {
	var faults []error
	if len(urls) == 0 {
		faults = append(faults, fault("URLs", "no URL is given", urlForm))
	}
	targets := make([]Target, len(urls))
	for i, u := range urls {
		field := fmt.Sprintf("URLs[%d]", i)
		t, err := parse(field, u, c)
		if err == nil {
			err = errors.Join(t.checkExternal(field, c), t.checkLogin(field, c))
		}
		if err != nil {
			faults = append(faults, err)
		}
		targets[i] = t
	}
	if p := validate.Name(c.Name); p != nil {
		faults = append(faults, fault("Name", p.Problem, p.Fix))
	}
	if err := checkHeartbeat("Heartbeat", c.Heartbeat); err != nil {
		faults = append(faults, err)
	}
	if c.Timeout < 0 {
		faults = append(faults, fault("DialTimeout", "is negative", "leave it zero for 10 s"))
	}
	return targets, errors.Join(faults...)
}

// The protocol carries the interval as a 16-bit number of seconds, and amqp091-go treats an interval below one second as
// "whatever the server wants".
func checkHeartbeat(field string, d time.Duration) error {
	if d < time.Second || d > 65535*time.Second || d%time.Second != 0 {
		return fault(field, d.String()+" is not a whole number of seconds from 1 to 65535",
			"leave it out for 10 s; heartbeats cannot be switched off")
	}
	return nil
}

func fault(field, problem, fix string) error {
	return &amqperr.FieldError{Package: "amqpkit", Field: field, Problem: problem, Fix: fix}
}
