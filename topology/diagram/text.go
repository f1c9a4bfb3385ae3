package diagram

import "github.com/amqpkit/amqpkit/internal/validate"

// visible replaces characters that are invisible, that end a line, or that change the direction of text by Go's escapes. XML
// forbids some of them.
func visible(s string) string { return validate.Printable(s) }

// A font is a size and a weight of text in the picture.
type font struct {
	size   int
	widths *[95]uint8
}

var (
	nameFont  = font{13, &boldWidths}
	aboutFont = font{11, &regularWidths}
	labelFont = font{11, &regularWidths}
)

// width is an upper estimate of the width of s.
func (f font) width(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case r >= ' ' && r < 0x7f:
			n += int(f.widths[r-' '])
		case r < 0x3000:
			n += 120
		default:
			n += 140
		}
	}
	return (n*f.size + 99) / 100
}

// short returns s, or its first and last characters if it is wider than most.
func (f font) short(s string, most int) string {
	if f.width(s) <= most {
		return s
	}
	runes := []rune(s)
	head, tail := 0, len(runes)
	for head < tail {
		h, t := head, tail
		if head <= len(runes)-tail {
			h++
		} else {
			t--
		}
		if f.width(string(runes[:h])+"…"+string(runes[t:])) > most {
			break
		}
		head, tail = h, t
	}
	return string(runes[:head]) + "…" + string(runes[tail:])
}

// wrap puts words into lines of at most most, with a dot between the words of a line.
func (f font) wrap(words []string, most int) (lines []string) {
	const dot = " · "
	for _, w := range words {
		w = f.short(w, most)
		if n := len(lines); n > 0 && f.width(lines[n-1]+dot+w) <= most {
			lines[n-1] += dot + w
		} else {
			lines = append(lines, w)
		}
	}
	return lines
}

// The widths of the printable ASCII characters in hundredths of the size: the larger one of DejaVu Sans and Arial.
var (
	regularWidths = [95]uint8{
		32, 41, 46, 84, 64, 96, 78, 28, 40, 40, 50, 84, 32, 37, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
		64, 64, 34, 34, 84, 84, 84, 56, 102, 69, 69, 73, 78, 67, 62, 78, 76, 30, 50, 67, 56, 87, 75, 79,
		67, 79, 73, 67, 62, 74, 69, 99, 69, 67, 69, 40, 34, 40, 84, 56, 50, 62, 64, 55, 64, 62, 36, 64,
		64, 28, 28, 58, 28, 98, 64, 62, 64, 64, 42, 53, 40, 64, 60, 82, 60, 60, 53, 64, 34, 64, 84,
	}
	boldWidths = [95]uint8{
		35, 46, 53, 84, 70, 101, 88, 31, 46, 46, 53, 84, 38, 42, 38, 37, 70, 70, 70, 70, 70, 70, 70, 70,
		70, 70, 40, 40, 84, 84, 84, 62, 100, 78, 77, 74, 84, 69, 69, 83, 84, 38, 56, 78, 64, 100, 84, 86,
		74, 86, 78, 73, 69, 82, 78, 111, 78, 73, 73, 46, 37, 46, 84, 56, 50, 68, 72, 60, 72, 68, 44, 72,
		72, 35, 35, 67, 35, 105, 72, 69, 72, 72, 50, 60, 48, 72, 66, 93, 65, 66, 59, 72, 37, 72, 84,
	}
)
