package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/amqptest"
)

func TestBrokerIsTheOneOfTheFlagTheEnvironmentOrTheProfile(t *testing.T) {
	s := newShell(t, amqptest.Config{Users: map[string]string{"ops": "top-secret"}})
	s.queue("q", nil)
	host := s.broker.Addr()
	s.write("config.json", `{"profiles": {
  "default": {"url": "amqp://`+host+`", "user": "ops", "password": "top-secret"},
  "staging": {"url": "amqp://ops@`+host+`", "password_file": "password.json"},
  "typo": {"url": "amqp://`+host+`", "user": "ops", "password": "wrong-secret"}}}`)
	s.write("password.json", "top-secret\n")
	const sent = "1 message confirmed\n"
	s.expect("amqpkit send -q q AMQP_URL", 0, sent)
	s.expect("amqpkit send --profile staging -q q staging", 0, sent)
	s.expect("amqpkit send --url amqp://ops@"+host+" --password-file password.json -q q flag", 0, sent)
	s.env["AMQP_URL"] = ""
	s.expect("amqpkit send -q q default", 0, sent)
	s.env["AMQP_URL"] = "amqp://ops:wrong-secret@" + host
	login := "login refused, or the connection was cut during login: Exception (403) Reason: \"username or password not allowed\" (check user and password, or with EXTERNAL that the name in the certificate is a user; the user guest may log in only from the broker's own host unless loopback_users is changed)\n"
	s.expect("amqpkit send -q q x", 1, "amqpkit send: amqp://ops@"+host+"/%2F: "+login)
	s.expect("amqpkit send --profile typo -q q x", 1, "amqpkit send: amqp://ops@"+host+"/%2F: "+login)
	s.expect("amqpkit send --profile prod -q q x", 2, `amqpkit send: config.json has no profile "prod"; it has default, staging, typo`+"\n")
	if got := s.bodies("q"); got != "AMQP_URL staging flag default" {
		t.Errorf("sent %s", got)
	}
}

func TestSecretsThatOthersCanReadAreReported(t *testing.T) {
	s := newShell(t)
	s.queue("q", nil)
	s.write("config.json", `{"profiles": {"p": {"url": "`+s.broker.URL()+`", "password": "guest", "user": "guest"}}}`)
	if err := os.Chmod(s.path("config.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.expect("amqpkit send --profile p -q q x", 0, `
amqpkit send: other users can read the password in config.json; run chmod 600 config.json
1 message confirmed
`)
	if p := (profile{Password: "top-secret", where: "profile p"}); strings.Contains(fmt.Sprintf("%v %+v %#v %s", p, p, p, &p), "secret") {
		t.Errorf("a profile shows its password: %+v", p)
	}
}

func TestErrorInTheConfigurationFileHasItsPlace(t *testing.T) {
	s := newShell(t)
	for content, want := range map[string]string{
		`{"profiles": {"p": {` + "\n" + `"url": 5}}}`:        "config.json:2:8: json: cannot unmarshal number into Go struct field profile.profiles.url of type string; see amqpkit --help for its form",
		`{"profiles": {"p": {` + "\n" + `"url" "x"}}}`:       "config.json:2:7: invalid character '\"' after object key; see amqpkit --help for its form",
		`{"profiles": {"p": {"uri": "x"}}}`:                  `config.json: json: unknown field "uri"; see amqpkit --help for its form`,
		`{"profiles": {"p": {"user": "x"}}}`:                 `config.json: the profile "p" has no "url"`,
		`{"profiles": {"p": {"url": "amqp://h:x"}}}`:         `profile p: has a port that is not a number, or a reserved character that is not percent-encoded; write amqp://user:password@host:5672/vhost, or amqps:// for TLS, with reserved characters in user, password and vhost percent-encoded (net/url.UserPassword does it)`,
		`{"profiles": {"p": {"url": "amqp://127.0.0.1:1"}}}`: "amqp://guest@127.0.0.1:1/%2F: cannot be reached: dial tcp 127.0.0.1:1: connect: connection refused (check that RabbitMQ runs there and that host and port are right (5672, or 5671 for amqps)); amqpkit broker runs one for development",
	} {
		s.write("config.json", content)
		if got := s.run("amqpkit send --profile p -q q x"); got != "amqpkit send: "+want+"\n" {
			t.Errorf("%s\n%s, want\n%s", content, got, want)
		}
	}
}

func TestCompletionAndVersionArePrinted(t *testing.T) {
	s := newShell(t)
	for _, sh := range []string{"bash", "zsh", "fish"} {
		if got := s.run("amqpkit completion " + sh); s.code != 0 || !strings.Contains(got, "amqpkit") {
			t.Errorf("completion %s: exit code %d, %s", sh, s.code, got)
		}
	}
	if got := s.run("amqpkit send --generate-shell-completion"); s.code != 0 {
		t.Errorf("completion of send: %d, %s", s.code, got)
	}
	if got := s.run("amqpkit --version"); !strings.HasPrefix(got, "amqpkit version ") {
		t.Errorf("version: %s", got)
	}
	if got := s.run("amqpkit"); s.code != 0 || !strings.Contains(got, "Exit codes:") {
		t.Errorf("help: %d, %s", s.code, got)
	}
}
