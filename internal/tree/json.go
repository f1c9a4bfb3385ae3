package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// ParseJSON parses a JSON text (RFC 8259). It returns nil after a fault.
func ParseJSON(data []byte, f *Faults) *Node {
	p := jsonParser{data: data, faults: f, dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	if bad := notUTF8(data); bad >= 0 {
		p.fault(bad, "is not UTF-8", "save the file as UTF-8 without a byte order mark")
		return nil
	}
	if bytes.HasPrefix(data, []byte("\uFEFF")) {
		p.fault(0, "the file begins with a byte order mark, which JSON does not allow", "save it as UTF-8 without a byte order mark")
		return nil
	}
	root := p.value(0)
	if root == nil {
		return nil
	}
	end := p.next()
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		p.fault(end, "the file continues after the end of its value", "remove the rest, or check the brackets before it")
		return nil
	}
	return root
}

type jsonParser struct {
	data   []byte
	dec    *json.Decoder
	faults *Faults

	// the last place that was asked for
	at, line, start int // an offset, its line from 0, and the offset of that line
}

// value parses the next value, or returns nil after a fault.
func (p *jsonParser) value(depth int) *Node {
	start := p.next()
	token, err := p.dec.Token()
	if err != nil {
		p.syntax(start, err)
		return nil
	}
	line, column := p.place(start)
	n := &Node{Line: line, Column: column}
	switch v := token.(type) {
	case nil:
		n.Kind = Null
	case bool:
		n.Kind, n.Text = Bool, fmt.Sprint(v)
	case json.Number:
		n.Kind, n.Text = Number, v.String()
	case string:
		n.Kind, n.Text = String, v
		if !p.whole(start, v) {
			return nil
		}
	case json.Delim:
		n.Kind = List
		if v == '{' {
			n.Kind = Map
		}
		if depth == MaxDepth {
			p.fault(start, fmt.Sprintf("is nested deeper than %d levels", MaxDepth), "flatten it")
			return nil
		}
		if !p.items(n, depth+1) {
			return nil
		}
	}
	return n
}

// items parses the items of a list or mapping and its closing bracket.
func (p *jsonParser) items(n *Node, depth int) bool {
	for p.dec.More() {
		var key *Node
		if n.Kind == Map {
			if key = p.key(); key == nil {
				return false
			}
		}
		item := p.value(depth)
		if item == nil {
			return false
		}
		n.Add(key, item)
	}
	end := p.next()
	if _, err := p.dec.Token(); err != nil {
		p.syntax(end, err)
		return false
	}
	return true
}

func (p *jsonParser) key() *Node {
	start := p.next()
	token, err := p.dec.Token()
	if err != nil {
		p.syntax(start, err)
		return nil
	}
	text, _ := token.(string) // the decoder accepts nothing else here
	line, column := p.place(start)
	if !p.whole(start, text) {
		return nil
	}
	return &Node{Kind: String, Text: text, Line: line, Column: column}
}

var replacement = regexp.MustCompile(`(?i)\x{FFFD}|\\ufffd`)

// whole reports a string with half of a surrogate pair, which encoding/json replaces by U+FFFD.
func (p *jsonParser) whole(start int, text string) bool {
	given := len(replacement.FindAll(p.data[start:p.dec.InputOffset()], -1))
	if strings.Count(text, "\uFFFD") <= given {
		return true
	}
	p.fault(start, `contains half of a surrogate pair (\ud800 to \udfff)`, "write the character itself")
	return false
}

// next returns the offset of the next token.
func (p *jsonParser) next() int {
	i := int(p.dec.InputOffset())
	for i < len(p.data) && strings.IndexByte(" \t\r\n,:", p.data[i]) >= 0 {
		i++
	}
	return i
}

// syntax reports an error of the decoder while it read the token at start.
func (p *jsonParser) syntax(start int, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		p.fault(len(bytes.TrimRight(p.data, " \t\r\n")), "the file ends before its value is complete", "check that the whole file was saved")
		return
	}
	p.fault(start, "is not JSON: "+validate.Printable(err.Error()), "check this place and the one before it for a missing or surplus comma, quote or bracket")
}

func (p *jsonParser) fault(offset int, problem, fix string) {
	line, column := p.place(offset)
	p.faults.AddAt(line, column, "", problem, fix)
}

// place returns the line and the column of an offset, which must not be before the last one.
func (p *jsonParser) place(offset int) (line, column int) {
	for ; p.at < offset; p.at++ {
		if p.data[p.at] == '\n' {
			p.line++
			p.start = p.at + 1
		}
	}
	return p.line + 1, utf8.RuneCount(p.data[p.start:offset]) + 1
}

// notUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func notUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}
