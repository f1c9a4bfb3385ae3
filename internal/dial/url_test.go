package dial

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"
)

func TestURLIsReadAsRabbitMQDocumentsIt(t *testing.T) {
	cfg := &Config{Heartbeat: 10 * time.Second, Timeout: time.Second}
	for raw, want := range map[string]Target{
		"amqp://":                {addr: "localhost:5672", vhost: "/", login: Login{Username: "guest", Password: "guest"}},
		"amqp://u:p@h:1234/v":    {addr: "h:1234", vhost: "v", login: Login{Username: "u", Password: "p"}},
		"amqp://u:p@h/":          {addr: "h:5672", vhost: "/", login: Login{Username: "u", Password: "p"}},
		"amqp://u:p@h/%2F":       {addr: "h:5672", vhost: "/", login: Login{Username: "u", Password: "p"}},
		"amqp://u:p@h/a%2Fb":     {addr: "h:5672", vhost: "a/b", login: Login{Username: "u", Password: "p"}},
		"amqp://u%40x:p%2F%3A@h": {addr: "h:5672", vhost: "/", login: Login{Username: "u@x", Password: "p/:"}},
		"amqps://u:p@h":          {addr: "h:5671", vhost: "/", secure: true, login: Login{Username: "u", Password: "p"}},
		"amqp://u:p@[::1]:5/v":   {addr: "[::1]:5", vhost: "v", login: Login{Username: "u", Password: "p"}},
		"amqp://h?heartbeat=30&connection_timeout=1500&channel_max=7": {
			addr: "h:5672", vhost: "/", login: Login{Username: "guest", Password: "guest"},
			heartbeat: 30 * time.Second, timeout: 1500 * time.Millisecond, channelMax: 7,
		},
	} {
		got, err := parse("URLs[0]", raw, cfg)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if want.heartbeat == 0 {
			want.heartbeat, want.timeout = cfg.Heartbeat, cfg.Timeout
		}
		got.display, got.host = "", ""
		if got != want {
			t.Errorf("%s:\n got %#v\nwant %#v", raw, got, want)
		}
	}
}

func TestAuthMechanismOfTheURLTakesPrecedenceOverConfigExternal(t *testing.T) {
	withCert := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: make([]tls.Certificate, 1)}
	const files = "certfile=/c.pem&keyfile=/k.pem"
	for _, c := range []struct {
		url   string
		cfg   Config
		want  bool
		shown string
	}{
		{"amqp://u:p@h", Config{}, false, "amqp://u@h:5672/%2F"},
		{"amqps://u:p@h?auth_mechanism=external&" + files, Config{}, true, "amqps://h:5671/%2F"},
		{"amqps://h?" + files, Config{External: true}, true, "amqps://h:5671/%2F"},
		{"amqps://h", Config{External: true, TLS: withCert}, true, "amqps://h:5671/%2F"},
		{"amqps://h", Config{External: true, TLS: &tls.Config{
			MinVersion:           tls.VersionTLS12,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, errors.New("none") },
		}}, true, "amqps://h:5671/%2F"},
		{"amqp://u:p@h?auth_mechanism=Plain", Config{External: true}, false, "amqp://u@h:5672/%2F"},
	} {
		c.cfg.Heartbeat = time.Second
		targets, err := c.cfg.Targets([]string{c.url})
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		redacted := Redact(c.url, c.cfg.External)
		if got := targets[0]; got.external != c.want || got.display != c.shown || redacted != c.shown {
			t.Errorf("%s, External %v: uses EXTERNAL: %v and is shown as %s and %s, want %v and %s", c.url, c.cfg.External, got.external, got.display, redacted, c.want, c.shown)
		}
	}
}
