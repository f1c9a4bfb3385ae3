package amqpkit

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/amqpkit/amqpkit/amqperr"
)

func TestS06MalformedURLIsOneTypedErrorWithoutThePassword(t *testing.T) {
	for _, raw := range []string{
		"", "localhost:5672", "http://u:s3cret@h/", "amqp://u:s3cr%zzet@h/", "amqp://u:s3cret@h:bad/", "amqp://u:s3cret@h:99999/",
		"amqp://u:s3cret@h:0/", "amqp://u:12/s3cret@h/", "amqp://u:12#s3cret@h/", "amqp://u:12?s3cret@h/", "amqp://u:1/2@s3cret/", "amqp://u:s3cret@h/v#x",
		"amqp://u:s3cret@h?heartbeat=0", "amqp://u:s3cret@h?heartbeat=s3cret", "amqp://u:s3cret@h?s3cret=1",
		"amqp://u:s3cret@h?connection_timeout=-5", "amqp://u:s3cret@h?cacertfile=/ca.pem", "amqps://u:s3cret@h?certfile=/c.pem",
		"amqp://u:s3cret@h /",
	} {
		_, err := Dial(t.Context(), raw)
		var field *amqperr.FieldError
		if !errors.As(err, &field) || !strings.HasPrefix(field.Field, "URLs[0]") || field.Fix == "" {
			t.Errorf("Dial(%q) = %v, want a amqperr.FieldError of URLs[0] with a fix", raw, err)
		}
		if strings.Contains(fmt.Sprint(err), "s3cret") || strings.Contains(fmt.Sprint(err), "s3cr") {
			t.Errorf("Dial(%q) shows the password: %v", raw, err)
		}
	}
}

func TestS92EveryMalformedURLIsRefusedWithTheReason(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                        "is empty",
		"\n":                                      "white space",
		"amqp://u:p@h/\n":                         "white space",
		" amqp://u:p@h/":                          "white space",
		"amqp://u:p@h /":                          "white space",
		"\"amqp://u:p@h/\"":                       "quotation marks",
		"amqp:rabbit-1:5672":                      "no // behind the scheme",
		"amqp:/rabbit-1:5672":                     "no // behind the scheme",
		"amqp:":                                   "no // behind the scheme",
		"rabbit-1:5672":                           "does not begin with amqp://",
		"rabbit-1":                                "does not begin with amqp://",
		"http://h/":                               "does not begin with amqp://",
		"//u:p@h/":                                "does not begin with amqp://",
		"amqp://u:p@/":                            "names no host",
		"amqp://u:p@:5672/":                       "names no host",
		"amqp://:5672/":                           "names no host",
		"amqp://:p@h/":                            "names no user",
		"amqp://billing@h/":                       "user without a password",
		"amqp://u:p@a:5672,b:5672/":               "several hosts",
		"amqp://u:p@${HOST}:5672/":                "placeholder",
		"amqp://u:p@h:${PORT}/":                   "placeholder",
		"amqp://u:p@::1/":                         "IPv6 address without brackets",
		"amqp://u:p%@h/":                          "hexadecimal",
		"amqp://u:p@h/%zz":                        "hexadecimal",
		"amqp://u:p@h:amqp/":                      "port that is not a number",
		"amqp://u:p@h:65536/":                     "port outside",
		"amqp://u:p@h/a/b":                        "several parts",
		"amqp://u:p@h/?verify=verify_none":        `query parameter "verify"`,
		"amqp://u:p@h/?heartbeat=5&heartbeat=6":   "heartbeat: is given more than once",
		"amqp://u:p@h/?heartbeat=":                "heartbeat: is empty",
		"amqp://u:p@h/?heartbeat=5s":              "heartbeat: is not a whole number",
		"amqp://u:p@h/?connection_timeout=-1":     "connection_timeout: is not a whole number",
		"amqp://u:p@h/?channel_max=65536":         "channel_max: is not a whole number",
		"amqps://u:p@h/?cacertfile=":              "cacertfile: is empty",
		"amqp://u:p@h/?heartbeat=5;channel_max=7": "query that cannot be read",
	} {
		_, err := Open(Config{URLs: []string{raw}})
		var field *amqperr.FieldError
		if !errors.As(err, &field) || !strings.HasPrefix(field.Field, "URLs[0]") || field.Fix == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", raw, err, want)
		}
	}
	for _, raw := range []string{"amqp://", "amqp:///", "amqp:///v", "amqp://h", "amqp://h/", "amqp://h//", "amqp://guest@h/", "AMQP://h/", "amqp://u:p@h:5672/%2F?heartbeat=5"} {
		if _, _, err := (Config{URLs: []string{raw}}).withDefaults().dialer(); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestConfigReportsEveryWrongFieldAtOnce(t *testing.T) {
	_, err := Open(Config{
		URLs: []string{"amqp://h", "nonsense", "amqps://h?server_name_indication=x"},
		TLS:  &tls.Config{MinVersion: tls.VersionTLS12}, Name: strings.Repeat("n", 256),
		Heartbeat: 1500 * time.Millisecond, DialTimeout: -1, SetupTimeout: -1,
	})
	for _, want := range []string{"URLs[1]", "URLs[2]", "Name", "Heartbeat", "DialTimeout", "SetupTimeout"} {
		if err == nil || !strings.Contains(err.Error(), "amqpkit: "+want+": ") {
			t.Errorf("Open = %v, want a fault of %s", err, want)
		}
	}
	if _, err := Open(Config{}); err == nil || !strings.Contains(err.Error(), "URLs: no URL") {
		t.Errorf("Open of the zero Config = %v", err)
	}
}

func TestMechanismThatCannotWorkIsRefusedBeforeTheDial(t *testing.T) {
	noCert := &tls.Config{MinVersion: tls.VersionTLS12}
	const files = "certfile=/c.pem&keyfile=/k.pem"
	credentials := func(context.Context) (Credentials, error) { return Credentials{}, nil }
	for want, cfg := range map[string]Config{
		"URLs[0] auth_mechanism: is neither PLAIN nor EXTERNAL": {URLs: []string{"amqp://h?auth_mechanism=amqplain"}},
		"URLs[0]: has the scheme amqp":                          {URLs: []string{"amqp://h?auth_mechanism=external"}},
		"URLs[1]: has the scheme amqp":                          {URLs: []string{"amqps://h?" + files, "amqp://h"}, External: true},
		"URLs[0]: has no client certificate":                    {URLs: []string{"amqps://h?auth_mechanism=external&cacertfile=/ca.pem"}},
		"URLs[1]: has no client certificate":                    {URLs: []string{"amqps://h?auth_mechanism=plain", "amqps://h"}, External: true, TLS: noCert},
		"URLs[0]: takes the user from a certificate":            {URLs: []string{"amqps://h?" + files}, External: true, Credentials: credentials},
	} {
		_, err := Open(cfg)
		var field *amqperr.FieldError
		if !errors.As(err, &field) || field.Fix == "" || !strings.HasPrefix(err.Error(), "amqpkit: "+want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open = %v, want a amqperr.FieldError with a fix that begins with %q", err, want)
		}
	}
}

// allOutputs is every way in which a value may end in a log or report.
func allOutputs(v any) string {
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		_, _ = fmt.Fprintf(&b, verb+"\n", v)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
	if j, err := json.Marshal(v); err == nil {
		b.Write(j)
	} else {
		b.WriteString(err.Error())
	}
	return b.String()
}

func checkSecret(t *testing.T, secret, escaped string) {
	t.Helper()
	raw := "amqp://bob:" + escaped + "@127.0.0.1:1/v"
	var log bytes.Buffer
	cfg := Config{URLs: []string{raw}, Dialer: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no network")
	}, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	outputs := []any{cfg, &cfg, Credentials{Username: "bob", Password: secret}, struct{ C *Credentials }{&Credentials{Username: "bob", Password: secret}}}
	conn, err := Open(cfg)
	if err != nil {
		outputs = append(outputs, err)
	} else {
		outputs = append(outputs, conn, struct{ C *Conn }{conn})
	}
	_, err = DialConfig(t.Context(), cfg)
	outputs = append(outputs, err)
	for _, v := range outputs {
		if s := allOutputs(v); strings.Contains(s, secret) || strings.Contains(s, escaped) {
			t.Errorf("the secret %q (%q) shows in an output of a %T", secret, escaped, v)
		}
	}
	if conn != nil {
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if s := log.String(); strings.Contains(s, secret) || strings.Contains(s, escaped) {
		t.Errorf("the secret %q (%q) was logged", secret, escaped)
	}
}

func FuzzSecretNeverShows(f *testing.F) {
	for _, s := range []string{"s3cr%zzet", "s3cr:et", "s3cr@et", "s3cr#et", "s3cr?et", "s3cr/et", "s3cr et", "1234/567", "s3cr\x00et", "[s3cret]"} {
		f.Add(s)
	}
	f.Fuzz(checkSecretBothWays)
}

func TestS06RandomSecretNeverShows(t *testing.T) {
	for range 300 {
		secret := make([]byte, 1+rand.N(20))
		for i := range secret {
			secret[i] = byte(' ' + rand.N(95))
		}
		checkSecretBothWays(t, string(secret))
	}
}

// checkSecretBothWays has a URL hold the secret as it is, which may make it malformed, and percent-encoded.
func checkSecretBothWays(t *testing.T, secret string) {
	t.Helper()
	secret = "Zq9" + secret + "Zq8" // long enough not to be part of any message by chance
	checkSecret(t, secret, secret)
	checkSecret(t, secret, url.PathEscape(secret))
}
