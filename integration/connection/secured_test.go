package connection

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/integration/rabbit"
)

// A secured is a broker that knows three ways to log in: passwords, the tokens of an OAuth 2 provider and client
// certificates. It is the provider, too, and keeps all that is logged.
type secured struct {
	*rabbit.Broker
	pki *kit.PKI
	key *rsa.PrivateKey

	mu     sync.Mutex
	tokens []string
	log    strings.Builder
}

// newSecured starts one for this test. Where there can be none, the test is reported as not covered.
func newSecured(t *testing.T) *secured {
	t.Helper()
	b := &secured{pki: kit.NewPKI(t)}
	b.pki.Server(t)
	var err error
	if b.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&b.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"/etc/rabbitmq/tokens.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
	files["/etc/rabbitmq/users.json"] = []byte(usersOfSecured)
	for _, name := range []string{"ca", "server", "server-key"} {
		if files["/etc/rabbitmq/"+name+".pem"], err = os.ReadFile(b.pki.File(name)); err != nil {
			t.Fatal(err)
		}
	}
	b.Broker, err = rabbit.Start(kit.Within(t, 3*time.Minute), rabbit.Options{
		Plugins: []string{"rabbitmq_auth_backend_oauth2", "rabbitmq_auth_mechanism_ssl"},
		Conf: `
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
auth_backends.1 = internal
auth_backends.2 = rabbit_auth_backend_oauth2
auth_oauth2.resource_server_id = rabbitmq
auth_oauth2.default_key = test
auth_oauth2.signing_keys.test = /etc/rabbitmq/tokens.pem
listeners.ssl.default = 5671
ssl_cert_login_from = common_name
ssl_options.cacertfile = /etc/rabbitmq/ca.pem
ssl_options.certfile = /etc/rabbitmq/server.pem
ssl_options.keyfile = /etc/rabbitmq/server-key.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
`,
		Files: files,
		Ports: []int{5671},
	})
	var docker *rabbit.DockerRequiredError
	if errors.Is(err, rabbit.ErrNotOwned) || errors.As(err, &docker) {
		kit.Skip(t, "needs a broker of its own in a container")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if _, err := b.Ctl(kit.Within(t, time.Minute), "import_definitions", "/etc/rabbitmq/users.json"); err != nil {
		t.Fatal(err)
	}
	return b
}

// usersOfSecured are its internal users, beside guest.
const usersOfSecured = `{
"users": [
	{"name": "billing", "password": "not told", "tags": []},
	{"name": "shipping", "password": "not told", "tags": []},
	{"name": "rotated", "password": "first", "tags": []}
],
"permissions": [
	{"user": "billing", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
	{"user": "shipping", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
	{"user": "rotated", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
]}`

// amqp is the broker's URL without user and password.
func (b *secured) amqp() string {
	u, err := url.Parse(b.URL())
	if err != nil {
		panic(err)
	}
	u.User = nil
	return u.String()
}

// amqps is that of its TLS listener.
func (b *secured) amqps() string {
	port, err := b.HostPort(5671)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("amqps://localhost:%d/", port)
}

// logger keeps what is logged, and shows it if the test fails.
func (b *secured) logger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(io.MultiWriter(b, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Write keeps what is logged.
func (b *secured) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

// token issues a token (RFC 7519), which tells in whole seconds when it expires.
func (b *secured) token(subject string, expires time.Time) string {
	claims, err := json.Marshal(map[string]any{
		"aud": "rabbitmq", "sub": subject, "exp": expires.Unix(), "jti": rand.Text(),
		"scope": "rabbitmq.configure:*/* rabbitmq.read:*/* rabbitmq.write:*/*",
	})
	if err != nil {
		panic(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	text := part([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + part(claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, b.key, crypto.SHA256, digest[:])
	if err != nil {
		panic(err)
	}
	text += "." + part(signature)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = append(b.tokens, text)
	return text
}

// forceClose makes the broker close the connection of that name, whose session is ac.
func (b *secured) forceClose(t *testing.T, connection string, ac *amqp.Connection) {
	t.Helper()
	end := end(ac)
	kit.WaitFor(t, func() bool { // it lists a connection a moment after it was opened
		n, err := b.CloseConnection(kit.Within(t, 20*time.Second), connection, "test")
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	if reason := lost(t, end); reason == nil || reason.Code != amqp.ConnectionForced {
		t.Errorf("the session ended with %v, want the operator's close", reason)
	}
}

// A source answers a Conn's questions for credentials with tokens.
type source struct {
	*secured
	lives  []time.Duration // of the first tokens; the last one's is that of all others
	change change

	mu      sync.Mutex
	expires []time.Time // of each answer
	asked   chan int    // gets the number of each question, once it is answered
}

// A change is made to the n-th answer, from 0.
type change func(ctx context.Context, n int, c *amqpkit.Credentials) error

func asItIs(context.Context, int, *amqpkit.Credentials) error { return nil }

func (b *secured) source(c change, lives ...time.Duration) *source {
	return &source{secured: b, lives: lives, change: c, asked: make(chan int, 1000)}
}

func (s *source) credentials(ctx context.Context) (amqpkit.Credentials, error) {
	s.mu.Lock()
	n := len(s.expires)
	life := s.lives[min(n, len(s.lives)-1)]
	expires := time.Unix(time.Now().Add(life).Unix(), 0)
	s.expires = append(s.expires, expires)
	s.mu.Unlock()
	c := amqpkit.Credentials{Username: "by-token", Password: s.token("billing", expires), Expires: expires}
	err := s.change(ctx, n, &c)
	select {
	case s.asked <- n:
	default: // nobody waits for as many
	}
	return c, err
}

// expiry is that of the n-th answer, which must have been given.
func (s *source) expiry(n int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expires[n]
}

// await returns once the n-th answer was given.
func (s *source) await(t *testing.T, n int) {
	t.Helper()
	for ctx := kit.Within(t, 30*time.Second); ; {
		select {
		case m := <-s.asked:
			if m >= n {
				return
			}
		case <-ctx.Done():
			t.Fatalf("question %d did not come", n)
		}
	}
}

// connect returns a Conn with credentials from s, and the session it has now.
func (s *source) connect(t *testing.T, cfg amqpkit.Config) (*amqpkit.Conn, *amqp.Connection) {
	t.Helper()
	if cfg.URLs == nil {
		cfg.URLs = []string{s.amqp()}
	}
	cfg.Credentials = s.credentials
	cfg.Logger = s.logger(t)
	conn := kit.Connect(t, cfg)
	return conn, session(t, conn)
}
