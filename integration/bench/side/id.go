package side

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
)

var idPrefix = func() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:]) + "-"
}()

// MessageID returns the id of message i. It has the same length as the ids of package producer and costs one allocation.
func MessageID(i int) string {
	b := append(make([]byte, 0, 48), idPrefix...)
	return string(strconv.AppendInt(b, int64(i)+1, 10))
}
