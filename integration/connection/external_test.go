package connection

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

// The users are the names in the certificates.
func logsInWithACertificate(t *testing.T, b *secured) { //nolint:thelper // a test
	p, amqps := b.pki, b.amqps()
	cert := p.Client(t, "billing")
	fromURL := amqpkit.Config{URLs: []string{amqps + p.Query() + "&auth_mechanism=external"}}
	fromConfig := amqpkit.Config{
		URLs: []string{amqps}, External: true,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.Pool, Certificates: []tls.Certificate{cert}},
	}

	for name, cfg := range map[string]amqpkit.Config{"from the URL": fromURL, "from the Config": fromConfig} {
		t.Run("the certificate's name logs in "+name, func(t *testing.T) {
			checkUser(t, kit.Connect(t, cfg), "billing")
		})
	}

	t.Run("another user id fails alone", func(t *testing.T) {
		conn := kit.Connect(t, fromURL)
		ac := session(t, conn)
		p := kit.NewProducer(t, conn, producer.Config{AllowUnroutable: true})
		ctx := kit.Within(t, 20*time.Second)
		for range 3 {
			err := p.Publish(ctx, "amq.fanout", "", amqp.Publishing{UserId: "shipping"})
			var field *amqperr.FieldError
			if !errors.Is(err, producer.ErrNotPublished) || !errors.As(err, &field) || field.Field != "UserId" {
				t.Errorf("with another name than the certificate's: %v, want ErrNotPublished and the field", err)
			}
			if err := p.Publish(ctx, "amq.fanout", "", amqp.Publishing{UserId: "billing"}); err != nil {
				t.Errorf("with the certificate's: %v", err)
			}
		}
		if session(t, conn) != ac {
			t.Error("the session was replaced")
		}
	})

	t.Run("a renewed certificate is used by the next session", func(t *testing.T) {
		cfg := fromURL
		cfg.Name = kit.Unique("renewed")
		conn := kit.Connect(t, cfg)
		before := session(t, conn)
		p.Client(t, "shipping")
		defer p.Client(t, "billing")
		b.forceClose(t, cfg.Name, before)
		if session(t, conn) == before {
			t.Error("the lost session was handed out")
		}
		checkUser(t, conn, "shipping")
	})

	t.Run("without a certificate there is no TLS", func(t *testing.T) {
		none := fromConfig.TLS.Clone()
		none.Certificates = nil
		none.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
		for name, cfg := range map[string]amqpkit.Config{
			"EXTERNAL": {URLs: []string{amqps}, External: true, TLS: none},
			"PLAIN":    {URLs: []string{amqps}, TLS: none},
		} {
			refused(t, name, cfg, amqpkit.ErrTLS, "check the certificates")
		}
	})

	t.Run("a name that is no user is refused", func(t *testing.T) {
		p.Client(t, "nobody")
		defer p.Client(t, "billing")
		refused(t, "nobody", fromURL, amqpkit.ErrLogin, "certificate")
	})
}

// refused fails the test unless dialling ends with an error of that kind and with that advice.
func refused(t *testing.T, name string, cfg amqpkit.Config, kind error, advice string) {
	t.Helper()
	conn, err := amqpkit.DialConfig(kit.Within(t, 20*time.Second), cfg)
	var dial *amqpkit.DialError
	if conn != nil || !errors.As(err, &dial) || !errors.Is(dial.Kind, kind) || !strings.Contains(err.Error(), advice) {
		t.Errorf("%s: Dial = %v, want kind %q and the word %q", name, err, kind, advice)
	}
	if conn != nil {
		_ = conn.Close(context.Background())
	}
}

func TestExternalWithoutThePluginTellsWhatIsMissing(t *testing.T) {
	p := kit.NewPKI(t)
	amqps, _ := p.ServeTLS(t)
	p.Client(t, "billing")
	cfg := amqpkit.Config{URLs: []string{amqps + p.Query()}, External: true}
	refused(t, "EXTERNAL", cfg, amqpkit.ErrHandshake, "rabbitmq_auth_mechanism_ssl")
}
