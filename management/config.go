package management

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/amqperr"
)

const defaultTimeout = 30 * time.Second

// A Config describes the management API of a broker. Only URL is required. Its formatting shows no password.
type Config struct {
	// URL is the address of the management API, http:// or https://user:password@host:port, with reserved characters
	// percent-encoded, and the path prefix if the broker has one. The port is usually 15672, or 15671 for https. Without a
	// user it is guest with the password guest.
	URL string

	// TLS is the configuration for https, for instance with the CA of the broker. Nil means the system's roots. It is
	// cloned.
	TLS *tls.Config

	// Timeout bounds each request with its answer. Zero means 30 s.
	Timeout time.Duration
}

// FromAMQP derives the Config from an AMQP URL, which also contains the name of the virtual host. The management API is assumed on
// the same host, with the same user, on its usual port: 15672, or 15671 for amqps. Query parameters of the URL are
// ignored: set Config.TLS if it names certificates. An invalid URL is an [*amqperr.FieldError].
func FromAMQP(amqpURL string) (cfg Config, virtualHost string, err error) {
	u, err := amqp.ParseURI(amqpURL)
	if err != nil { // its text may contain the password
		return Config{}, "", fault("amqpURL", "is not an AMQP URL", "write amqp://user:password@host:port/vhost, with reserved characters percent-encoded")
	}
	api := url.URL{Scheme: "http", Host: net.JoinHostPort(u.Host, "15672"), User: url.UserPassword(u.Username, u.Password)}
	if u.Scheme == "amqps" {
		api.Scheme, api.Host = "https", net.JoinHostPort(u.Host, "15671")
	}
	return Config{URL: api.String()}, u.Vhost, nil
}

// Format writes the URL without its password, whatever the verb.
func (c Config) Format(s fmt.State, _ rune) {
	shown := "(malformed)"
	if u, err := c.parse(); err == nil {
		shown = u.Redacted()
	}
	_, _ = fmt.Fprintf(s, "management.Config{URL: %s}", shown)
}

// LogValue returns the text that Format writes.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// parse returns the URL, or an error without its text, which contains the password.
func (c Config) parse() (*url.URL, error) {
	const fix = "write http://user:password@host:15672, with reserved characters percent-encoded"
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		return nil, fault("URL", "is empty", fix)
	case err != nil:
		return nil, fault("URL", "is malformed", fix)
	case u.Scheme == "amqp" || u.Scheme == "amqps":
		return nil, fault("URL", "is the address of AMQP", "use FromAMQP, or "+fix)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fault("URL", "does not begin with http:// or https://", fix)
	case u.Hostname() == "":
		return nil, fault("URL", "names no host", fix)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fault("URL", "has a query or a fragment", "leave it out")
	}
	return u, nil
}

func fault(field, problem, fix string) error {
	return &amqperr.FieldError{Package: "management", Field: field, Problem: problem, Fix: fix}
}
