package main

import (
	"bufio"
	"io"
)

// scan sends each line of r on the returned channel and closes it at the end of r. The caller must receive until then.
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
