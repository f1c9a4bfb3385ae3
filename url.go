package amqpkit

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/wire"
)

const urlForm = "write amqp://user:password@host:5672/vhost, or amqps:// for TLS, with reserved characters " +
	"in user, password and vhost percent-encoded (net/url.UserPassword does it)"

// A target is one parsed URL.
type target struct {
	display    string // the URL as errors and logs show it: without the password
	addr       string
	host       string
	secure     bool
	login      Credentials
	vhost      string
	heartbeat  time.Duration
	timeout    time.Duration
	channelMax uint16
	mechanism  string

	caFile, certFile, keyFile, serverName string
}

var queryParameters = map[string]bool{
	"heartbeat": true, "connection_timeout": true, "channel_max": true,
	"cacertfile": true, "certfile": true, "keyfile": true, "server_name_indication": true,
	"auth_mechanism": true,
}

// parseURL never puts a part of the URL into its error: in a malformed one, any part may be
// a piece of the password. For that reason net/url's and amqp091-go's own errors stay out.
func parseURL(field, raw string, cfg Config) (target, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "amqp" && u.Scheme != "amqps") {
		return target{}, fault(field, "is not an AMQP URI", urlForm)
	}
	// A reserved character that was not encoded can leave a piece of the password in the
	// path, query or fragment; what follows it then contains the @ before the host.
	_, rest, _ := strings.Cut(strings.TrimPrefix(raw[len(u.Scheme):], "://"), "/")
	if strings.ContainsAny(rest, "@#") || strings.Contains(u.RawQuery, "@") || u.Fragment != "" {
		return target{}, fault(field, "has an @ or # behind the host", urlForm)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(u.Host, "[") {
		return target{}, fault(field, "is not an AMQP URI", urlForm)
	}
	for name := range query {
		if !queryParameters[name] {
			return target{}, fault(field, "has an unknown query parameter",
				"known are heartbeat, connection_timeout, channel_max, cacertfile, certfile, keyfile, server_name_indication, auth_mechanism")
		}
	}
	uri, err := amqp.ParseURI(raw)
	if err != nil {
		return target{}, fault(field, "has a port or query parameter that is no number in its range", urlForm)
	}
	if uri.Port < 1 || uri.Port > 65535 {
		return target{}, fault(field, "has a port outside 1 to 65535", "leave it out for 5672, or 5671 with amqps://")
	}
	t := target{
		addr:       net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)),
		host:       uri.Host,
		secure:     uri.Scheme == "amqps",
		login:      Credentials{Username: uri.Username, Password: uri.Password},
		vhost:      uri.Vhost,
		heartbeat:  cfg.Heartbeat,
		timeout:    cfg.DialTimeout,
		channelMax: uri.ChannelMax,
		mechanism:  cfg.Mechanism,
		caFile:     uri.CACertFile,
		certFile:   uri.CertFile,
		keyFile:    uri.KeyFile,
		serverName: uri.ServerName,
	}
	if query.Has("auth_mechanism") {
		t.mechanism = strings.ToUpper(query.Get("auth_mechanism"))
		if err := checkMechanism(field+" auth_mechanism", t.mechanism); err != nil {
			return target{}, err
		}
	}
	shown := url.URL{Scheme: uri.Scheme, User: url.User(uri.Username), Host: t.addr, Path: "/" + uri.Vhost, RawPath: "/" + url.PathEscape(uri.Vhost)}
	if t.mechanism == External {
		shown.User = nil // the certificate tells the name
	}
	t.display = shown.String()

	if query.Has("heartbeat") {
		seconds, _ := strconv.Atoi(query.Get("heartbeat"))
		t.heartbeat = time.Duration(seconds) * time.Second
		if err := checkHeartbeat(field+" heartbeat", t.heartbeat); err != nil {
			return target{}, err
		}
	}
	if uri.ConnectionTimeout < 0 || uri.ConnectionTimeout > math.MaxInt32 {
		return target{}, fault(field, "has a connection_timeout out of range", "give it in milliseconds, or leave it out for 10 s")
	}
	if wire.Short(uri.Vhost) != nil {
		return target{}, fault(field, "has a virtual host longer than 255 bytes", "shorten it")
	}
	if uri.ConnectionTimeout > 0 {
		t.timeout = time.Duration(uri.ConnectionTimeout) * time.Millisecond
	}
	if files := t.caFile + t.certFile + t.keyFile + t.serverName; files != "" {
		if !t.secure {
			return target{}, fault(field, "has TLS parameters, but not the scheme amqps", "write amqps://")
		}
		if cfg.TLS != nil {
			return target{}, fault(field, "has TLS parameters, and Config.TLS is set too", "keep one of them")
		}
	}
	if (t.certFile == "") != (t.keyFile == "") {
		return target{}, fault(field, "has only one of certfile and keyfile", "give both")
	}
	return t, nil
}

// checkExternal refuses SASL EXTERNAL where no certificate can tell who the client is, or
// somebody else does.
func (t target) checkExternal(field string, cfg Config) error {
	switch {
	case t.mechanism != External:
		return nil
	case !t.secure:
		return fault(field, "has the scheme amqp, but SASL EXTERNAL takes the user from a TLS certificate", "write amqps://")
	case t.certFile == "" && (cfg.TLS == nil || len(cfg.TLS.Certificates) == 0 && cfg.TLS.GetClientCertificate == nil):
		return fault(field, "has no client certificate, from which SASL EXTERNAL takes the user", "give certfile and keyfile, or set Config.TLS")
	case cfg.Credentials != nil:
		return fault(field, "takes the user from a certificate (SASL EXTERNAL), and Config.Credentials is set too", "keep one of them")
	}
	return nil
}

// redact shows a URL without its password, or nothing of one that cannot be parsed.
func redact(raw, mechanism string) string {
	t, err := parseURL("", raw, Config{Mechanism: mechanism})
	if err != nil {
		return "(malformed)"
	}
	return t.display
}

// tlsConfig is made anew for every dial: files may have been renewed, and crypto/tls keeps
// what it is given.
func (t target) tlsConfig(base *tls.Config) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		c = base.Clone()
	}
	if t.serverName != "" {
		c.ServerName = t.serverName
	}
	if c.ServerName == "" {
		c.ServerName = t.host
	}
	if t.caFile != "" {
		pem, err := os.ReadFile(t.caFile)
		if err != nil {
			return nil, fmt.Errorf("cacertfile: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("cacertfile: no PEM certificate in it")
		}
	}
	if t.certFile != "" {
		cert, err := tls.LoadX509KeyPair(t.certFile, t.keyFile)
		if err != nil {
			return nil, fmt.Errorf("certfile, keyfile: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}
