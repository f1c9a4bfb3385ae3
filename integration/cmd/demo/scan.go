package main

import (
	"bufio"
	"io"
)

// scan sends what is read line by line, and closes the channel at its end. Whoever calls it receives until
// then.
func scan(r io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(r)
		for s.Scan() {
			lines <- s.Text()
		}
	}()
	return lines
}
