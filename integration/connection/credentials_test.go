package connection

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
	"github.com/amqpkit/amqpkit/producer"
)

func TestS98CredentialsThatChange(t *testing.T) {
	b := newSecured(t)
	var tests sync.WaitGroup
	for name, test := range map[string]func(*testing.T, *secured){
		"tokens are renewed on the living connections":            renewsOnTheLivingConnections,
		"without renewal the broker ends it at the expiry":        closesAtTheExpiry,
		"a failed renewal is tried again before the expiry":       triesAgainBeforeTheExpiry,
		"without a token the session ends and comes back":         comesBackWithTheNewestToken,
		"another user takes a new session":                        takesANewSessionForAnotherUser,
		"a token of another user takes a new session":             takesANewSessionForAnotherSubject,
		"a provider that hangs is left at the expiry":             leavesAHangingProvider,
		"close interrupts a renewal that waits for the token":     closeInterruptsTheProvider,
		"close interrupts a renewal that waits for the broker":    closeInterruptsTheUpdate,
		"the user id is the one in the token":                     checksTheUserIDOfTheToken,
		"a rotated password is that of the next session":          usesTheRotatedPassword,
		"a certificate logs in, and renewed, in the next session": logsInWithACertificate,
	} {
		// All at once, which t.Parallel would not do on a small machine: they pass their time waiting.
		tests.Go(func() {
			t.Run(name, func(t *testing.T) { test(t, b) })
		})
	}
	tests.Wait()

	expired := "credential expired"
	if !b.AtLeast(4, 3) { // it closes no connection for that
		expired = "cannot renew the credentials"
	}
	if log := b.log.String(); !strings.Contains(log, expired) || len(b.tokens) < 20 {
		t.Errorf("that is not the log of these tests, with %d tokens", len(b.tokens))
	}
	for _, token := range b.tokens {
		if signature := token[strings.LastIndexByte(token, '.')+1:]; strings.Contains(b.log.String(), signature) {
			t.Error("a token was logged")
		}
	}
}

// RabbitMQ's internal users do not expire: a living connection outlives its password, and update-secret is granted
// without a look at the secret.
func usesTheRotatedPassword(t *testing.T, b *secured) { //nolint:thelper // a test
	const user = "rotated"
	var password atomic.Value
	password.Store("first")
	asked := make(chan string, 100)
	conn := kit.Connect(t, amqpkit.Config{
		URLs: []string{b.amqp()}, Name: user, Logger: b.logger(t),
		Credentials: func(context.Context) (amqpkit.Credentials, error) {
			c := amqpkit.Credentials{Username: user, Password: password.Load().(string)}
			if c.Password == "first" {
				c.Expires = time.Now().Add(5 * time.Second)
			}
			asked <- c.Password
			return c, nil
		},
	})
	before := session(t, conn)
	if _, err := b.Ctl(kit.Within(t, 20*time.Second), "change_password", user, "second"); err != nil {
		t.Fatal(err)
	}
	password.Store("second")
	for <-asked != "second" { // the renewal may have been faster
	}
	for _, secret := range []string{"second", "first", "nonsense", ""} {
		if err := before.UpdateSecret(secret, "test"); err != nil {
			t.Errorf("update-secret with %q: %v", secret, err)
		}
	}
	if _, err := before.Channel(); err != nil || session(t, conn) != before {
		t.Errorf("the session did not outlive its password: %v", err)
	}

	b.forceClose(t, user, before)
	session(t, conn) // which only the new password gets
}

// checkUser fails the test unless conn is logged in as user: from nobody else RabbitMQ takes a message with that user id.
func checkUser(t *testing.T, conn *amqpkit.Conn, user string) {
	t.Helper()
	p := kit.NewProducer(t, conn, producer.Config{AllowUnroutable: true})
	if err := p.Publish(kit.Within(t, 20*time.Second), "amq.fanout", "", amqp.Publishing{UserId: user}); err != nil {
		t.Errorf("as %s: %v", user, err)
	}
}

// session returns conn's current session for publishing.
func session(t *testing.T, conn *amqpkit.Conn) *amqp.Connection {
	t.Helper()
	ac, err := conn.PublishConnection(kit.Within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return ac
}

// end tells why the session ends.
func end(ac *amqp.Connection) <-chan *amqp.Error { return ac.NotifyClose(make(chan *amqp.Error, 1)) }

// lost waits until a session ends, and returns why.
func lost(t *testing.T, end <-chan *amqp.Error) *amqp.Error {
	t.Helper()
	select {
	case reason := <-end:
		return reason
	case <-kit.Within(t, 30*time.Second).Done():
		t.Fatal("the session goes on")
		return nil
	}
}
