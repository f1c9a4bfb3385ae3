package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
)

// A pki is a certificate authority of one test, with its files.
type pki struct {
	dir  string
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// newPKI returns an authority whose files are removed with the test.
func newPKI(t *testing.T) *pki {
	t.Helper()
	p := &pki{dir: t.TempDir(), pool: x509.NewCertPool()}
	p.ca = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	p.key = p.issue(t, "ca", p.ca)
	p.pool.AddCert(p.ca)
	return p
}

// file returns the path of the file called name.
func (p *pki) file(name string) string { return filepath.Join(p.dir, name+".pem") }

// issue writes a certificate and its key to files and parses the certificate into c.
func (p *pki) issue(t *testing.T, name string, c *x509.Certificate) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := p.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, p.ca, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	*c = *parsed
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		p.file(name):          {Type: "CERTIFICATE", Bytes: der},
		p.file(name + "-key"): {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

// server issues the certificate of a server, as the files server and server-key.
func (p *pki) server(t *testing.T) {
	t.Helper()
	p.issue(t, "server", &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"rabbit.test", "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// client issues the certificate of a client called name, as the files client and client-key, and returns both.
func (p *pki) client(t *testing.T, name string) tls.Certificate {
	t.Helper()
	p.issue(t, "client", &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	cert, err := tls.LoadX509KeyPair(p.file("client"), p.file("client-key"))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// query names the files in a URL.
func (p *pki) query() string {
	return "?cacertfile=" + p.file("ca") + "&certfile=" + p.file("client") + "&keyfile=" + p.file("client-key")
}

// serveTLS puts TLS in front of the broker, demanding a client certificate, and returns the
// URL and the names in the certificates that clients showed.
func (p *pki) serveTLS(t *testing.T) (amqps string, clients <-chan string) {
	t.Helper()
	p.server(t)
	cert, err := tls.LoadX509KeyPair(p.file("server"), p.file("server-key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientCAs: p.pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(broker(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	names := make(chan string, 10)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				tc := c.(*tls.Conn)
				if tc.HandshakeContext(t.Context()) != nil {
					return
				}
				names <- tc.ConnectionState().PeerCertificates[0].Subject.CommonName
				server, err := net.Dial("tcp", target.Host)
				if err != nil {
					return
				}
				wg.Go(func() {
					_, _ = io.Copy(c, server)
					_ = c.Close()
				})
				_, _ = io.Copy(server, c)
				_ = server.Close()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "amqps://guest:guest@localhost:" + port + "/", names
}

func TestTLSWithAClientCertificate(t *testing.T) {
	p := newPKI(t)
	amqps, clients := p.serveTLS(t)
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.pool, Certificates: []tls.Certificate{p.client(t, "billing")}}
	files := amqps + p.query()
	for name, cfg := range map[string]amqpkit.Config{
		"from Config.TLS":  {URLs: []string{amqps}, TLS: config},
		"from the URL":     {URLs: []string{files}},
		"another SNI name": {URLs: []string{files + "&server_name_indication=rabbit.test"}},
	} {
		conn := connect(t, cfg)
		ch, err := conn.Channel(within(t, 10*time.Second))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := ch.Close(); err != nil {
			t.Error(err)
		}
		if got := <-clients; got != "billing" {
			t.Errorf("%s: the server saw the certificate of %q", name, got)
		}
		if err := conn.Close(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
	}
	if config.ServerName != "" {
		t.Errorf("the caller's tls.Config was changed: ServerName %q", config.ServerName)
	}
}

func TestTLSRefusesWhatItCannotVerify(t *testing.T) {
	p := newPKI(t)
	amqps, _ := p.serveTLS(t)
	for name, cfg := range map[string]amqpkit.Config{
		"unknown authority": {URLs: []string{amqps}},
		"another name":      {URLs: []string{amqps + "?server_name_indication=other.test&cacertfile=" + p.file("ca")}},
		"no certificate":    {URLs: []string{amqps}, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.pool}},
		"missing file":      {URLs: []string{amqps + "?cacertfile=/no/such.pem"}},
	} {
		for range 10 { // in TLS 1.3 it is open who notices first
			conn, err := amqpkit.DialConfig(within(t, 10*time.Second), cfg)
			if conn != nil || !errors.Is(err, amqpkit.ErrTLS) || errors.Is(err, amqp.ErrClosed) {
				t.Errorf("%s: Dial = %v, want ErrTLS and the reason", name, err)
			}
		}
	}
}
