package parking

import (
	"strconv"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A parked message is anybody's, and String goes to terminals and logs.
func TestS93ParkedIsPrintedOnOneLine(t *testing.T) {
	const bad = "a\nb\x1b[31m\r\u2028\xff\u202e"
	line := Message{Publishing: amqp.Publishing{MessageId: bad, Body: []byte("x")}, Queue: bad, Attempts: 2, Reason: bad, Error: bad}.String()
	for _, r := range line {
		if !strconv.IsPrint(r) {
			t.Fatalf("%q holds %q", line, r)
		}
	}
	if n := strings.Count(line, `a\nb\x1b[31m\r`); n != 4 {
		t.Errorf("%s shows %d of four texts", line, n)
	}
	plain := Message{Publishing: amqp.Publishing{MessageId: "m-1"}, Queue: "orders", Attempts: 3, Reason: "attempts", Error: `say "no"`}.String()
	if want := `message "m-1" from queue "orders", 3 attempts, attempts: say "no"`; plain != want {
		t.Errorf("got %s, want %s", plain, want)
	}
}
