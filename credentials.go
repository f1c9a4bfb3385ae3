package amqpkit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/amqpkit/amqpkit/internal/dial"
	"github.com/amqpkit/amqpkit/internal/wire"
)

// Credentials are a user name and its password or token. Formatting shows only the name, as
// with Config.
type Credentials struct {
	Username string
	Password string `json:"-"`

	// Expires is when the broker stops accepting them, as with the token of an OAuth 2
	// provider. RabbitMQ 4.3 then closes the connection within a second. RabbitMQ 4.0 keeps it,
	// and refuses publishing and declaring (403) within 15 s until they are renewed. Zero means never. New ones are asked for when 20 % of the time is left that they
	// had when they came, and after a failure whenever half of the rest has passed, so that a
	// short failure of their source does no harm.
	Expires time.Time
}

// Format writes the user name, whatever the verb.
func (c Credentials) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "amqpkit.Credentials{Username: %q, Password: xxxxx}", c.Username)
}

// LogValue gives slog the user name.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// The timing of renewals: how many percent of the time left pass before the next one and before
// it is tried again, the least time between two, and what bounds the question for new ones.
const (
	renewAt      = 80
	retryAt      = 50
	renewFloor   = time.Second
	renewTimeout = 10 * time.Second
	never        = 1<<63 - 1
)

var errOtherUser = errors.New("the new credentials are of another user, which takes a new connection")

// renewIn tells after how long to ask for new credentials: when so many percent of the time
// that is left have passed.
func (c Credentials) renewIn(now time.Time, percent int) time.Duration {
	if c.Expires.IsZero() {
		return never
	}
	return max(c.Expires.Sub(now)/100*time.Duration(percent), renewFloor)
}

// renew asks for new credentials and tells the broker. The link's goroutine goes on meanwhile;
// the result comes on the channel, unless ctx, which ends with the session, has ended.
//
// Only the session's end bounds the broker's answer: while it blocks publishing it does not read,
// and a session that is given up for that would lose what waits for a confirm.
func (l *link) renew(ctx context.Context, s *dial.Session) <-chan error {
	result := make(chan error, 1)
	l.conn.running.Go(func() {
		asking, cancel := context.WithTimeoutCause(ctx, renewTimeout, fmt.Errorf("not done within %v", renewTimeout))
		defer cancel()
		fresh, err := l.conn.cfg.Credentials(asking)
		switch {
		case err != nil:
		case fresh.Username != s.Login.Username:
			err = errOtherUser
		default:
			err = wire.Do(ctx, s.Connection, func() error { return s.UpdateSecret(fresh.Password, "about to expire") })
		}
		if err == nil {
			s.Login = dial.Login(fresh)
		}
		result <- err
	})
	return result
}
