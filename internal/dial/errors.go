package dial

// A Kind is the part of an attempt that failed.
type Kind int

// The kinds.
const (
	Unreachable Kind = iota // no connection or no answer in time
	TLS                     // the TLS handshake, or a certificate file
	Refused                 // the login, or the connection was cut during it
	Vhost                   // the virtual host
	Limit                   // a limit on connections
	Handshake               // the AMQP handshake
	NoLogin                 // Config.Login
	Setup                   // setup, which the caller of Connect passes
)

// An Error reports why a URL gave no session. It contains no secret.
type Error struct {
	URL  string // without the password
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return e.URL + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// prefer returns the error to report for several attempts: the first one from a broker that answered, or else the first one.
func prefer(first, next *Error) *Error {
	if first == nil || first.Kind == Unreachable && next.Kind != Unreachable {
		return next
	}
	return first
}
