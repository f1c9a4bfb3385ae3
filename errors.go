package amqpkit

import (
	"errors"
	"strings"

	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/dial"
)

// ErrClosed reports that the Conn was closed. An error of a Conn that was ended by a failure that no retry can heal wraps that
// failure too.
var ErrClosed error = closed("amqpkit: connection closed")

// A closed error has the method by which package parking recognises that every later publish will fail too. producer.ErrClosed
// has it as well.
type closed string

func (e closed) Error() string { return string(e) }

func (closed) Closed() bool { return true }

// errNotUp is the reason of a link that has not failed yet.
var errNotUp = errors.New("amqpkit: the connection is not up yet")

// The kinds of a [DialError], for errors.Is.
var (
	// ErrUnreachable: no connection to that address, or no answer in time.
	ErrUnreachable = errors.New("cannot be reached")

	// ErrTLS: the TLS handshake failed, or a certificate file cannot be read.
	ErrTLS = errors.New("TLS handshake failed")

	// ErrLogin: the broker refused the login, or the connection was cut while logging in.
	// RabbitMQ closes the connection after a refused login, so the two cases look the same.
	ErrLogin = errors.New("login refused, or the connection was cut during login")

	// ErrVhost: the virtual host does not exist or this user may not use it.
	ErrVhost = errors.New("virtual host refused")

	// ErrLimit: a connection limit of the user, the virtual host or the node is reached.
	ErrLimit = errors.New("connection limit reached")

	// ErrHandshake: the peer closed the connection during the AMQP handshake, or speaks another protocol than AMQP 0-9-1.
	ErrHandshake = errors.New("AMQP handshake failed")

	// ErrCredentials: [Config.Credentials] returned an error.
	ErrCredentials = errors.New("no credentials")

	// ErrSetup: [Config.Setup] returned an error.
	ErrSetup = errors.New("setup failed")
)

var advice = map[error]string{
	ErrUnreachable: "check that RabbitMQ runs there and that host and port are right (5672, or 5671 for amqps)",
	ErrTLS:         "check the certificates, the server name and that the port serves TLS",
	ErrLogin:       "check user and password, or with EXTERNAL that the name in the certificate is a user; the user guest may log in only from the broker's own host unless loopback_users is changed",
	ErrVhost:       "check the path of the URL, create it (rabbitmqctl add_vhost) or grant access (rabbitmqctl set_permissions)",
	ErrLimit:       "raise the limit or close connections",
	ErrHandshake:   "the broker may be starting; else check that the port is RabbitMQ's for AMQP 0-9-1 (not 15672 or 61613) and that amqp:// and amqps:// are not mixed up; EXTERNAL needs the plugin rabbitmq_auth_mechanism_ssl",
	ErrCredentials: "check Config.Credentials",
}

// A DialError reports why one URL gave no session. Its text holds no secret.
type DialError struct {
	URL  string // without the password
	Kind error  // one of the kinds above: ErrUnreachable, ErrLogin, …
	Err  error  // the cause; may be nil
}

func (e *DialError) Error() string {
	s := "amqpkit: " + e.URL + ": " + e.Kind.Error()
	if e.Err != nil {
		s += ": " + text(e.Err)
	}
	if a := advice[e.Kind]; a != "" { // an error of Setup has its own
		s += " (" + a + ")"
	}
	return s
}

// Unwrap returns the kind, amqperr.ErrNoConnection and the cause.
func (e *DialError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind, amqperr.ErrNoConnection}
	}
	return []error{e.Kind, amqperr.ErrNoConnection, e.Err}
}

// kinds are the kinds of a [DialError] by the part of the attempt that failed.
var kinds = map[dial.Kind]error{
	dial.Unreachable: ErrUnreachable,
	dial.TLS:         ErrTLS,
	dial.Refused:     ErrLogin,
	dial.Vhost:       ErrVhost,
	dial.Limit:       ErrLimit,
	dial.Handshake:   ErrHandshake,
	dial.NoLogin:     ErrCredentials,
	dial.Setup:       ErrSetup,
}

func dialError(e *dial.Error) *DialError {
	return &DialError{URL: e.URL, Kind: kinds[e.Kind], Err: e.Err}
}

const prefix = "amqpkit: "

// text returns the text of err without the package's prefix.
func text(err error) string { return strings.TrimPrefix(err.Error(), prefix) }

// wrap returns an error that wraps causes. Its text consists of what, if it is not empty, and their texts, with the package's
// prefix once.
func wrap(what string, causes ...error) error {
	var texts []string
	if what != "" {
		texts = append(texts, what)
	}
	for _, cause := range causes {
		texts = append(texts, text(cause))
	}
	return &wrapped{prefix + strings.Join(texts, ": "), causes}
}

type wrapped struct {
	text   string
	causes []error
}

func (e *wrapped) Error() string   { return e.text }
func (e *wrapped) Unwrap() []error { return e.causes }
