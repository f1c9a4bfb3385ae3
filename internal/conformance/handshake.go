package conformance

import (
	"net"
	"net/url"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Scenarios about logging in with amqp091-go. The texts of login and virtual host errors are from amqp091-go.
var handshakes = []Scenario{
	{"logging-in", func(s *Script) {
		u, err := url.Parse(s.broker.URL)
		s.Must(err)
		user := u.User.Username()
		password, _ := u.User.Password()
		for _, f := range []struct {
			what  string
			auth  amqp.Authentication
			vhost string
		}{
			{"right", &amqp.PlainAuth{Username: user, Password: password}, "/"},
			{"right", &amqp.AMQPlainAuth{Username: user, Password: password}, "/"},
			{"wrong password", &amqp.PlainAuth{Username: user, Password: password + s.suffix}, "/"},
			{"unknown user", &amqp.AMQPlainAuth{Username: user + s.suffix, Password: password}, "/"},
			{"no user", anonymous{}, "/"},
			{"a certificate", &amqp.ExternalAuth{}, "/"},
			{"unknown virtual host", &amqp.PlainAuth{Username: user, Password: password}, "none" + s.suffix},
		} {
			_, err = s.dialWith(amqp.Config{SASL: []amqp.Authentication{f.auth}, Vhost: f.vhost})
			if err == nil {
				s.Note("%s, %s: ok", f.what, f.auth.Mechanism())
				continue
			}
			s.Note("%s, %s: %s", f.what, f.auth.Mechanism(), failure(err))
		}
	}},
	{"server-properties", func(s *Script) {
		conn := s.Dial()
		s.Note("AMQP %d.%d, locales %q", conn.Major, conn.Minor, conn.Locales)
		s.Note("product %s", value(conn.Properties["product"]))
		s.Note("capabilities %s", value(conn.Properties["capabilities"]))
		s.Must(conn.UpdateSecret("another", "for a test")) // RabbitMQ ignores it for users of its internal database
		conn.Open().State()
	}},
}

// anonymous is a login without a user name.
type anonymous struct{}

func (anonymous) Mechanism() string { return "ANONYMOUS" }
func (anonymous) Response() string  { return "" }

// dialWith connects with the given configuration. The connection is closed when the test ends.
func (s *Script) dialWith(c amqp.Config) (*Conn, error) {
	s.tb.Helper()
	if c.Vhost == "" {
		c.Vhost = "/"
	}
	var socket net.Conn
	c.Dial = func(network, addr string) (_ net.Conn, err error) {
		socket, err = amqp.DefaultDial(eventTimeout)(network, addr)
		return socket, err
	}
	conn, err := amqp.DialConfig(s.broker.URL, c)
	if err != nil {
		if socket != nil {
			_ = socket.Close() // amqp091-go leaves it open if client and broker share no login mechanism
		}
		return nil, err
	}
	s.tb.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(eventTimeout)) })
	return &Conn{Connection: conn, s: s, closed: conn.NotifyClose(make(chan *amqp.Error, 1)), socket: socket}, nil
}
