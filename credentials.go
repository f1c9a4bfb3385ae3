package amqpkit

import (
	"fmt"
	"log/slog"
	"time"
)

// Credentials are a user name and its password or token. Formatting shows only the name.
type Credentials struct {
	// Username is the name of the user.
	Username string

	// Password is the password, or the token of an OAuth 2 provider. It never appears in errors, logs or JSON.
	Password string `json:"-"`

	// Expires is the time at which the broker stops accepting the Password. RabbitMQ 4.3 then closes the connection within a second.
	// RabbitMQ 4.0 keeps it, and refuses publishing and declaring (403) within 15 s until the Password is renewed. Zero means never.
	//
	// Credentials are renewed after 80 % of their lifetime. A failed renewal is repeated after half of the remaining time, so a short
	// failure of their source causes no loss.
	Expires time.Time
}

// Format writes the user name, whatever the verb.
func (c Credentials) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "amqpkit.Credentials{Username: %q, Password: xxxxx}", c.Username)
}

// LogValue returns the user name.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// The timing of renewals.
const (
	renewAt      = 80               // percent of the lifetime
	retryAt      = 50               // percent of the remaining time, after a failure
	renewFloor   = time.Second      // the minimum between two renewals
	renewTimeout = 10 * time.Second // of one call of Config.Credentials
	never        = 1<<63 - 1
)

// renewIn returns the time until the next renewal: a percentage of the remaining lifetime.
func (c Credentials) renewIn(now time.Time, percent int) time.Duration {
	if c.Expires.IsZero() {
		return never
	}
	return max(c.Expires.Sub(now)/100*time.Duration(percent), renewFloor)
}
