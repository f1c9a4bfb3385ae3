package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit/internal/amqpjson"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// A messageWriter writes messages as text or as lines, and their bodies into files if dir is set.
type messageWriter struct {
	out  *bufio.Writer
	file *os.File // behind out, if that is a file on disk
	json bool
	dir  string

	n   atomic.Int64 // messages
	err error        // of the first write that failed
}

func (a *app) newMessageWriter(c *cli.Command) (*messageWriter, error) {
	w := &messageWriter{out: bufio.NewWriter(a.out), json: wantsJSON(c), dir: c.String("dir")}
	if f, ok := a.out.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			w.file = f
		}
	}
	if w.dir != "" {
		return w, os.MkdirAll(w.dir, 0o777)
	}
	return w, nil
}

// write writes a message. It is safe after flush.
func (w *messageWriter) write(exchange, key string, m amqp.Publishing, redelivered bool) error {
	n := w.n.Add(1)
	file := ""
	if w.dir != "" {
		file = filepath.Join(w.dir, fmt.Sprintf("%06d", n))
		if err := writeNew(file, m.Body); err != nil {
			return w.failed(err)
		}
		m.Body = nil
	}
	if w.json {
		line := encodeLine(exchange, key, m)
		if file != "" {
			line["file"] = file
		}
		return w.failed(printJSON(w.out, line))
	}
	_, err := fmt.Fprintf(w.out, "message %d: %s\n", n, describeMessage(exchange, key, m, redelivered))
	if err == nil && file != "" {
		_, err = fmt.Fprintf(w.out, "body in %s\n", file)
	} else if err == nil {
		_, err = io.WriteString(w.out, printable(m.Body)+"\n")
	}
	return w.failed(err)
}

// describeMessage returns one line about a message, without its body.
func describeMessage(exchange, key string, m amqp.Publishing, redelivered bool) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+validate.Quote(value))
		}
	}
	add("exchange", exchange)
	add("key", key)
	add("id", m.MessageId)
	add("type", m.Type)
	add("content type", m.ContentType)
	add("content encoding", m.ContentEncoding)
	add("correlation id", m.CorrelationId)
	add("reply to", m.ReplyTo)
	add("expiration", m.Expiration)
	add("app id", m.AppId)
	if m.Priority > 0 {
		parts = append(parts, fmt.Sprint("priority ", m.Priority))
	}
	if len(m.Headers) > 0 {
		headers, _ := json.Marshal(amqpjson.Encode(amqp.Publishing{Headers: m.Headers})["headers"])
		parts = append(parts, "headers "+validate.Printable(string(headers)))
	}
	if redelivered {
		parts = append(parts, "redelivered")
	}
	return strings.Join(parts, ", ")
}

// flush returns after everything was written, to a file also to the disk.
func (w *messageWriter) flush() error {
	err := w.out.Flush()
	if err == nil && w.file != nil {
		err = w.file.Sync()
	}
	if err == nil && w.dir != "" {
		err = syncDir(w.dir)
	}
	return w.failed(err)
}

func (w *messageWriter) failed(err error) error {
	if err == nil {
		return nil
	}
	const rest = "the other messages stay in the queue"
	switch {
	case errors.Is(err, syscall.EPIPE):
		err = errors.New("the output was closed; " + rest)
	case errors.Is(err, os.ErrExist):
		err = fmt.Errorf("%w; %s; use another --dir", err, rest)
	default:
		err = fmt.Errorf("%w; %s", err, rest)
	}
	if w.err == nil {
		w.err = err
	}
	return err
}

// writeNew writes a new file to the disk.
func writeNew(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir writes the names of new files to the disk, where the system needs that.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, os.ErrPermission) {
		return err
	}
	return nil
}
