package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/amqpkit/amqpkit/producer"
)

const (
	maxBody = 16 << 20 // RabbitMQ's default limit
	maxLine = 2 * maxBody
)

// An input is a message to send.
type input struct {
	producer.Message
	at       string // its origin, such as "line 3"
	received bool   // its properties are complete, so nothing is added
}

// textInputs returns a message for each text, and repeats all of them.
func textInputs(template producer.Message, texts []string, times int) iter.Seq2[input, error] {
	return func(yield func(input, error) bool) {
		for range times {
			for i, text := range texts {
				m := template
				m.Publishing.Body = []byte(text)
				if !yield(input{Message: m, at: fmt.Sprintf("text %d", i+1)}, nil) {
					return
				}
			}
		}
	}
}

// fileInputs returns a message for each file, and repeats all of them.
func fileInputs(template producer.Message, files []string, times int) iter.Seq2[input, error] {
	return func(yield func(input, error) bool) {
		for range times {
			for _, name := range files {
				m := template
				var err error
				m.Publishing.Body, err = readFile(name)
				if !yield(input{Message: m, at: name}, err) || err != nil {
					return
				}
			}
		}
	}
}

// readFile reads a file that fits into a message.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBody+1))
	if err == nil && len(b) > maxBody {
		err = fmt.Errorf("%s is larger than %s bytes, the limit of a message; split it", name, group(maxBody))
	}
	return b, err
}

// lineInputs returns a message for each line of r.
func lineInputs(template producer.Message, r io.Reader) iter.Seq2[input, error] {
	return lines(r, func(line []byte) (input, error) {
		m := template
		m.Publishing.Body = line
		return input{Message: m}, nil
	})
}

// jsonInputs returns a message for each line of r, see encodeLine. If to is not nil, it is the address of all messages.
func jsonInputs(to *producer.Message, r io.Reader) iter.Seq2[input, error] {
	return lines(r, func(line []byte) (input, error) {
		m, err := decodeLine(line)
		switch {
		case err != nil:
		case to != nil:
			m.Exchange, m.Key = to.Exchange, to.Key
		case m.Exchange == "" && m.Key == "":
			err = errors.New(`it names no address; add "key", or use --queue or --exchange`)
		}
		return input{Message: m, received: true}, err
	})
}

// lines returns the message that parse makes of each line, without its line break. Empty lines are left out.
func lines(r io.Reader, parse func(line []byte) (input, error)) iter.Seq2[input, error] {
	return func(yield func(input, error) bool) {
		b := bufio.NewReaderSize(r, 64<<10)
		for n := 1; ; n++ {
			line, err := readLine(b)
			if errors.Is(err, io.EOF) {
				return
			}
			var in input
			if err == nil && len(line) > 0 {
				in, err = parse(line)
			}
			in.at = fmt.Sprintf("line %d", n)
			if err != nil {
				err = fmt.Errorf("line %d: %w", n, err)
			}
			if err == nil && len(line) == 0 {
				continue
			}
			if !yield(in, err) || err != nil {
				return
			}
		}
	}
}

// readLine reads a line into new memory. It returns io.EOF at the end.
func readLine(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("it is longer than %s bytes", group(maxLine))
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0, err == nil:
			return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), nil
		}
		return nil, err
	}
}

// read runs a sequence in a goroutine, because the end of ctx cannot interrupt a read from the standard input. That goroutine then ends with
// the process.
func read(ctx context.Context, inputs iter.Seq2[input, error]) <-chan result {
	results := make(chan result)
	go func() {
		defer close(results)
		for in, err := range inputs {
			select {
			case results <- result{in, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return results
}

type result struct {
	input
	err error
}
