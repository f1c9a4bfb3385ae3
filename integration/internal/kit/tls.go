package kit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A PKI is the certificate authority of a test, with its files.
type PKI struct {
	dir  string
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	Pool *x509.CertPool
}

// NewPKI returns a certificate authority. Its files are removed at the end of the test.
func NewPKI(t *testing.T) *PKI {
	t.Helper()
	p := &PKI{dir: t.TempDir(), Pool: x509.NewCertPool()}
	p.ca = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	p.key = p.Issue(t, "ca", p.ca)
	p.Pool.AddCert(p.ca)
	return p
}

// File returns the path of the file called name.
func (p *PKI) File(name string) string { return filepath.Join(p.dir, name+".pem") }

// Issue signs a certificate with the fields of c, writes it and its key to files, and stores the parsed certificate in c.
func (p *PKI) Issue(t *testing.T, name string, c *x509.Certificate) *ecdsa.PrivateKey {
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
		p.File(name):          {Type: "CERTIFICATE", Bytes: der},
		p.File(name + "-key"): {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

// Server issues a server certificate, with the files server and server-key.
func (p *PKI) Server(t *testing.T) {
	t.Helper()
	p.Issue(t, "server", &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"rabbit.test", "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// Client issues and returns a client certificate for name, with the files client and client-key.
func (p *PKI) Client(t *testing.T, name string) tls.Certificate {
	t.Helper()
	p.Issue(t, "client", &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	cert, err := tls.LoadX509KeyPair(p.File("client"), p.File("client-key"))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Query returns the query of an AMQP URL that names the files.
func (p *PKI) Query() string {
	return "?cacertfile=" + p.File("ca") + "&certfile=" + p.File("client") + "&keyfile=" + p.File("client-key")
}

// ServeTLS starts a TLS proxy in front of the broker that requires a client certificate. It returns the URL, and the common names
// in the certificates of connecting clients.
func (p *PKI) ServeTLS(t *testing.T) (amqps string, clients <-chan string) {
	t.Helper()
	p.Server(t)
	cert, err := tls.LoadX509KeyPair(p.File("server"), p.File("server-key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientCAs: p.Pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(Broker(t).URL())
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
