package dial

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
	"unicode"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/internal/validate"
)

const urlForm = "write amqp://user:password@host:5672/vhost, or amqps:// for TLS, with reserved characters " +
	"in user, password and vhost percent-encoded (net/url.UserPassword does it)"

// A Target is a parsed URL.
type Target struct {
	display    string // the URL as errors and logs show it: without the password
	addr       string
	host       string
	secure     bool
	login      Login
	vhost      string
	heartbeat  time.Duration
	timeout    time.Duration
	channelMax uint16
	external   bool // SASL EXTERNAL instead of PLAIN
	noPassword bool // the URL has a user alone

	caFile, certFile, keyFile, serverName string
}

var queryParameters = map[string]bool{
	"heartbeat": true, "connection_timeout": true, "channel_max": true,
	"cacertfile": true, "certfile": true, "keyfile": true, "server_name_indication": true,
	"auth_mechanism": true,
}

// malformed returns the problem with the form of a URL, or "". u is nil if net/url cannot parse it.
func malformed(raw string, u *url.URL) (problem, fix string) {
	scheme, rest, _ := strings.Cut(raw, ":")
	authority, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
	hosts := authority[strings.LastIndex(authority, "@")+1:]
	hosts, _, _ = strings.Cut(hosts, "?")
	switch scheme = strings.ToLower(scheme); {
	case raw == "":
		return "is empty", "set the variable or secret that it is read from"
	case strings.TrimSpace(raw) != raw || strings.HasPrefix(raw, "\ufeff"):
		return "begins or ends with white space, such as the line break at the end of a file or secret", "remove it (strings.TrimSpace does)"
	case strings.ContainsAny(raw[:1]+raw[len(raw)-1:], "\"'`"):
		return "is in quotation marks", "remove them"
	case strings.ContainsFunc(raw, unicode.IsSpace) || strings.ContainsFunc(raw, unicode.IsControl):
		return "contains white space or a control character", urlForm
	case scheme != "amqp" && scheme != "amqps":
		return "does not begin with amqp:// or amqps://", urlForm
	case !strings.HasPrefix(rest, "//"):
		return "has no // behind the scheme", urlForm
	case strings.Contains(hosts, ","):
		return "names several hosts", "give a URL for each in Config.URLs"
	case strings.ContainsAny(hosts, "{}<>$"):
		return "has a placeholder for the host or port that was not filled in", urlForm
	case strings.Count(hosts, ":") > 1 && !strings.HasPrefix(hosts, "["):
		return "has an IPv6 address without brackets, or a reserved character that is not percent-encoded", urlForm
	case badEscape(raw):
		return "has a % that no two hexadecimal digits follow", urlForm
	case u == nil:
		return "has a port that is not a number, or a reserved character that is not percent-encoded", urlForm
	case u.Hostname() == "" && (u.User != nil || u.Host != ""):
		return "names no host", urlForm
	case u.User != nil && u.User.Username() == "":
		return "names no user before the password", urlForm
	}
	return "", ""
}

func badEscape(s string) bool {
	for i := range len(s) {
		if s[i] == '%' {
			if _, err := url.PathUnescape(s[i:min(i+3, len(s))]); err != nil {
				return true
			}
		}
	}
	return false
}

// parse never puts a part of the URL into its error: in a malformed one, any part may be
// a piece of the password. For that reason net/url's and amqp091-go's own errors stay out.
func parse(field, raw string, cfg *Config) (Target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		u = nil
	}
	if problem, fix := malformed(raw, u); problem != "" {
		return Target{}, fault(field, problem, fix)
	}
	// A reserved character that was not encoded can leave a piece of the password in the
	// path, query or fragment; what follows it then contains the @ before the host.
	_, rest, _ := strings.Cut(strings.TrimPrefix(raw[len(u.Scheme):], "://"), "/")
	if strings.ContainsAny(rest, "@#") || strings.Contains(u.RawQuery, "@") || u.Fragment != "" {
		return Target{}, fault(field, "has an @ or # behind the host", urlForm)
	}
	if u.Path != "//" && strings.Contains(strings.TrimPrefix(u.EscapedPath(), "/"), "/") {
		return Target{}, fault(field, "has a path of several parts", "write a / within the name of a virtual host as %2F")
	}
	query, err := checkQuery(field, u)
	if err != nil {
		return Target{}, err
	}
	uri, err := amqp.ParseURI(raw)
	if err != nil || uri.Port < 1 || uri.Port > 65535 {
		return Target{}, fault(field, "has a port outside 1 to 65535", "leave it out for 5672, or 5671 with amqps://")
	}
	t := Target{
		addr:       net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)),
		host:       uri.Host,
		secure:     uri.Scheme == "amqps",
		login:      Login{Username: uri.Username, Password: uri.Password},
		vhost:      uri.Vhost,
		heartbeat:  cfg.Heartbeat,
		timeout:    cfg.Timeout,
		channelMax: uri.ChannelMax,
		external:   cfg.External,
		caFile:     uri.CACertFile,
		certFile:   uri.CertFile,
		keyFile:    uri.KeyFile,
		serverName: uri.ServerName,
	}
	if u.User != nil {
		_, has := u.User.Password()
		t.noPassword = !has
	}
	if query.Has("auth_mechanism") {
		name := strings.ToUpper(query.Get("auth_mechanism"))
		if t.external = name == "EXTERNAL"; !t.external && name != "PLAIN" {
			return Target{}, fault(field+" auth_mechanism", "is neither PLAIN nor EXTERNAL", "leave it out for PLAIN")
		}
	}
	shown := url.URL{Scheme: uri.Scheme, User: url.User(uri.Username), Host: t.addr, Path: "/" + uri.Vhost, RawPath: "/" + url.PathEscape(uri.Vhost)}
	if t.external {
		shown.User = nil // the certificate has the name
	}
	t.display = shown.String()

	if query.Has("heartbeat") {
		seconds, _ := strconv.Atoi(query.Get("heartbeat"))
		t.heartbeat = time.Duration(seconds) * time.Second
		if err := checkHeartbeat(field+" heartbeat", t.heartbeat); err != nil {
			return Target{}, err
		}
	}
	if validate.Short(uri.Vhost) != nil {
		return Target{}, fault(field, "has a virtual host longer than 255 bytes", "shorten it")
	}
	if uri.ConnectionTimeout > 0 {
		t.timeout = time.Duration(uri.ConnectionTimeout) * time.Millisecond
	}
	if files := t.caFile + t.certFile + t.keyFile + t.serverName; files != "" {
		if !t.secure {
			return Target{}, fault(field, "has TLS parameters, but not the scheme amqps", "write amqps://")
		}
		if cfg.TLS != nil {
			return Target{}, fault(field, "has TLS parameters, and Config.TLS is set too", "keep one of them")
		}
	}
	if (t.certFile == "") != (t.keyFile == "") {
		return Target{}, fault(field, "has only one of certfile and keyfile", "give both")
	}
	return t, nil
}

// queryNumbers are the parameters whose values are numbers, and their largest values.
var queryNumbers = map[string]uint64{"heartbeat": 65535, "connection_timeout": math.MaxInt32, "channel_max": 65535}

// checkQuery checks the query parameters. It names an unknown one only where it cannot be a piece of a
// password: behind a host that follows the user.
func checkQuery(field string, u *url.URL) (url.Values, error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.RawQuery == "" && u.ForceQuery {
		return nil, fault(field, "has a query that cannot be read", "write ?name=value&name=value")
	}
	for name, values := range query {
		most, number := queryNumbers[name]
		n, err := strconv.ParseUint(values[0], 10, 64)
		switch {
		case !queryParameters[name]:
			problem := "has an unknown query parameter"
			if (u.User != nil || u.Port() == "") && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") == "" {
				problem += " " + validate.Quote(name)
			}
			return nil, fault(field, problem,
				"known are heartbeat, connection_timeout, channel_max, cacertfile, certfile, keyfile, server_name_indication, auth_mechanism")
		case len(values) > 1:
			return nil, fault(field+" "+name, "is given more than once", "give it once")
		case values[0] == "":
			return nil, fault(field+" "+name, "is empty", "give it a value, or leave it out")
		case number && (err != nil || n > most):
			return nil, fault(field+" "+name, fmt.Sprintf("is not a whole number from 0 to %d", most), "write heartbeat in seconds, connection_timeout in milliseconds")
		}
	}
	return query, nil
}

// checkLogin refuses a user without a password, for which amqp091-go would send the password of guest.
func (t Target) checkLogin(field string, cfg *Config) error {
	if t.noPassword && t.login.Username != "guest" && !t.external && cfg.Login == nil {
		return fault(field, "names a user without a password", "write user:password@, or set Config.Credentials")
	}
	return nil
}

// checkExternal refuses SASL EXTERNAL without a client certificate, and with Credentials, which would name another user.
func (t Target) checkExternal(field string, cfg *Config) error {
	switch {
	case !t.external:
		return nil
	case !t.secure:
		return fault(field, "has the scheme amqp, but SASL EXTERNAL takes the user from a TLS certificate", "write amqps://")
	case t.certFile == "" && (cfg.TLS == nil || len(cfg.TLS.Certificates) == 0 && cfg.TLS.GetClientCertificate == nil):
		return fault(field, "has no client certificate, from which SASL EXTERNAL takes the user", "give certfile and keyfile, or set Config.TLS")
	case cfg.Login != nil:
		return fault(field, "takes the user from a certificate (SASL EXTERNAL), and Config.Credentials is set too", "keep one of them")
	}
	return nil
}

// Redact returns a URL without its password, or a placeholder if it cannot be parsed.
func Redact(raw string, external bool) string {
	t, err := parse("", raw, &Config{External: external})
	if err != nil {
		return "(malformed)"
	}
	return t.display
}

// tlsConfig reads the files for every dial, because they may have been renewed. crypto/tls keeps the configuration, so each dial gets
// its own.
func (t Target) tlsConfig(base *tls.Config) (*tls.Config, error) {
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
