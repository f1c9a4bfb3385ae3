package connection

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

func TestTLSWithAClientCertificate(t *testing.T) {
	p := kit.NewPKI(t)
	amqps, clients := p.ServeTLS(t)
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.Pool, Certificates: []tls.Certificate{p.Client(t, "billing")}}
	files := amqps + p.Query()
	for name, cfg := range map[string]amqpkit.Config{
		"from Config.TLS":  {URLs: []string{amqps}, TLS: config},
		"from the URL":     {URLs: []string{files}},
		"another SNI name": {URLs: []string{files + "&server_name_indication=rabbit.test"}},
	} {
		conn := kit.Connect(t, cfg)
		ch, err := conn.Channel(kit.Within(t, 10*time.Second))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := ch.Close(); err != nil {
			t.Error(err)
		}
		if got := <-clients; got != "billing" {
			t.Errorf("%s: the server saw the certificate of %q", name, got)
		}
		if err := conn.Close(kit.Within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
	}
	if config.ServerName != "" {
		t.Errorf("the caller's tls.Config was changed: ServerName %q", config.ServerName)
	}
}

func TestTLSRefusesWhatItCannotVerify(t *testing.T) {
	p := kit.NewPKI(t)
	amqps, _ := p.ServeTLS(t)
	for name, cfg := range map[string]amqpkit.Config{
		"unknown authority": {URLs: []string{amqps}},
		"another name":      {URLs: []string{amqps + "?server_name_indication=other.test&cacertfile=" + p.File("ca")}},
		"no certificate":    {URLs: []string{amqps}, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.Pool}},
		"missing file":      {URLs: []string{amqps + "?cacertfile=/no/such.pem"}},
	} {
		for range 10 { // in TLS 1.3 it is open who notices first
			conn, err := amqpkit.DialConfig(kit.Within(t, 10*time.Second), cfg)
			if conn != nil || !errors.Is(err, amqpkit.ErrTLS) || errors.Is(err, amqp.ErrClosed) {
				t.Errorf("%s: Dial = %v, want ErrTLS and the reason", name, err)
			}
		}
	}
}
