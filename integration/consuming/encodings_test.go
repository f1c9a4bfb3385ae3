package consuming

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/amqpkit/amqpkit/consumer"
	"github.com/amqpkit/amqpkit/integration/internal/kit"
)

// Messages as kombu 5.2.4 (Celery's library) and Spring AMQP 2.2 and 3.2 publish them: each body is order 7.
func TestS70EncodingsOfOtherClientsAreDecoded(t *testing.T) {
	b := kit.NewConsumerBench(t)
	dead := b.Queue(nil)
	queue := b.Queue(amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write([]byte("order 7")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		body, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	spring := amqp.Table{"springAutoDecompress": true}
	messages := map[string]struct {
		msg     amqp.Publishing
		charset string
	}{
		"kombu":              {amqp.Publishing{ContentType: "application/json", ContentEncoding: "utf-8", Body: []byte("order 7")}, "utf-8"},
		"kombu, raw":         {amqp.Publishing{ContentType: "application/data", ContentEncoding: "binary", Body: []byte("order 7")}, "binary"},
		"kombu, gzip":        {amqp.Publishing{ContentEncoding: "utf-8", Headers: amqp.Table{"compression": "application/x-gzip"}, Body: unhex("789ccb2f4a492d523007000b110274")}, "utf-8"},
		"kombu, bzip2":       {amqp.Publishing{ContentEncoding: "utf-8", Headers: amqp.Table{"compression": "application/x-bz2"}, Body: unhex("425a68393141592653598637a37c00000219804000008006009000200021800c032525dc5dc914e1424218de8df0")}, "utf-8"},
		"Spring AMQP":        {amqp.Publishing{ContentType: "text/plain", ContentEncoding: "UTF-8", Body: []byte("order 7")}, "UTF-8"},
		"Spring AMQP, colon": {amqp.Publishing{ContentEncoding: "gzip:UTF-8", Headers: spring, Body: zipped.Bytes()}, "UTF-8"},
		"Spring AMQP, comma": {amqp.Publishing{ContentEncoding: "gzip, UTF-8", Headers: spring, Body: zipped.Bytes()}, "UTF-8"},
		"no compression":     {amqp.Publishing{ContentEncoding: "windows-1252", Body: []byte("order 7")}, "windows-1252"},
	}
	for id, m := range messages {
		m.msg.MessageId = id
		if err := b.Plain.PublishWithContext(t.Context(), "", queue, true, false, m.msg); err != nil {
			t.Fatal(err)
		}
	}
	unknown := amqp.Publishing{MessageId: "unknown", ContentEncoding: "utf-8", Headers: amqp.Table{"compression": "application/x-lzma"}, Body: []byte("x")}
	if err := b.Plain.PublishWithContext(t.Context(), "", queue, true, false, unknown); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, len(messages)+1)
	b.Start(consumer.Config{Queue: queue, HasDeadLetterExchange: true, Middleware: []consumer.Middleware{consumer.Decompress(0)}},
		func(_ context.Context, d *consumer.Delivery) error {
			got <- fmt.Sprintf("%s: %s, %q, %d headers", d.MessageId, d.Body, d.ContentEncoding, len(d.Headers))
			return nil
		})
	want := map[string]bool{}
	for id, m := range messages {
		want[fmt.Sprintf("%s: order 7, %q, 0 headers", id, m.charset)] = true
	}
	for range messages {
		if line := kit.Receive(t, got, "delivery"); !want[line] {
			t.Errorf("the handler got %s", line)
		}
	}
	if d := b.Take(dead); d.MessageId != "unknown" || d.ContentEncoding != "utf-8" || string(d.Body) != "x" {
		t.Errorf("dead-lettered %s (%s, %q), want the one in an unknown compression, as it was", d.MessageId, d.ContentEncoding, d.Body)
	}
}
