package broker

import (
	"fmt"
	"unicode/utf8"

	"github.com/amqpkit/amqpkit/amqptest/internal/codec"
)

// The AMQP 0-9-1 reply codes in use.
const (
	replySuccess       = 200
	noRoute            = 312
	accessRefused      = 403
	notFound           = 404
	resourceLocked     = 405
	preconditionFailed = 406
	connectionForced   = 320
	frameError         = 501
	syntaxError        = 502
	commandInvalid     = 503
	channelError       = 504
	unexpectedFrame    = 505
	resourceError      = 506
	notAllowed         = 530
	notImplemented     = 540
	internalError      = 541
)

var codeNames = map[int]string{
	noRoute:            "NO_ROUTE",
	accessRefused:      "ACCESS_REFUSED",
	notFound:           "NOT_FOUND",
	resourceLocked:     "RESOURCE_LOCKED",
	preconditionFailed: "PRECONDITION_FAILED",
	connectionForced:   "CONNECTION_FORCED",
	frameError:         "FRAME_ERROR",
	syntaxError:        "SYNTAX_ERROR",
	commandInvalid:     "COMMAND_INVALID",
	channelError:       "CHANNEL_ERROR",
	unexpectedFrame:    "UNEXPECTED_FRAME",
	resourceError:      "RESOURCE_ERROR",
	notAllowed:         "NOT_ALLOWED",
	notImplemented:     "NOT_IMPLEMENTED",
	internalError:      "INTERNAL_ERROR",
}

// An exception closes a channel, or the connection if its code requires that.
type exception struct {
	code  int
	text  string
	exact bool // text is sent without the code's name
}

func (e *exception) Error() string { return e.reply() }

// reply returns the reply text. RabbitMQ truncates it to 255 characters.
func (e *exception) reply() string {
	text := e.text
	switch {
	case e.exact:
	case text == "":
		text = codeNames[e.code]
	default:
		text = codeNames[e.code] + " - " + text
	}
	if !utf8.ValidString(text) { // Erlang treats such a name as Latin-1
		text = latin1(text)
	}
	if r := []rune(text); len(r) > 255 {
		text = string(r[:252]) + "..."
	}
	return text
}

func latin1(s string) string {
	var r []rune
	for _, b := range []byte(s) {
		r = append(r, rune(b))
	}
	return string(r)
}

// hard reports whether the exception closes the connection.
func (e *exception) hard() bool { return e.code == connectionForced || e.code >= 500 }

func raise(code int, format string, args ...any) *exception {
	return &exception{code: code, text: fmt.Sprintf(format, args...)}
}

// unsupported reports a feature that RabbitMQ has and this broker does not.
func unsupported(format string, args ...any) *exception {
	return raise(notImplemented, "amqptest: "+format, args...)
}

// connectionClose returns connection.close with the failed method. RabbitMQ names no method for an internal error
// without text.
func (e *exception) connectionClose(id codec.ID) codec.Method {
	if e.text == "" {
		id = 0
	}
	return &codec.ConnectionClose{Code: uint16(e.code), Text: e.reply(), Class: id.Class(), Method: id.Method()}
}

func (e *exception) channelClose(id codec.ID) codec.Method {
	return &codec.ChannelClose{Code: uint16(e.code), Text: e.reply(), Class: id.Class(), Method: id.Method()}
}

// A failure is an exception with the failed method, 0 for none.
type failure struct {
	id codec.ID
	*exception
}
