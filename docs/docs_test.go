// Package docs checks the pages of the project: links, names of tests, and code blocks.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages returns the text of each Markdown page of the project, by its path from the project's root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := files(t, ".md")
	delete(texts, "CHANGELOG.md")                     // it names removed tests
	delete(texts, "integration/cmd/bench/preface.md") // a part of docs/benchmarks.md
	if len(texts) < 8 {
		t.Fatalf("found only %d pages", len(texts))
	}
	return texts
}

func files(t *testing.T, suffix string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, suffix):
			return nil
		}
		text, err := os.ReadFile(path)
		texts[filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

var code = regexp.MustCompile("(?ms)^ *```.*?^ *```$")

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	texts := pages(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for page, text := range texts {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(page), path))
			}
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, m[1])
			} else if anchor != "" && !anchors(texts[target])[anchor] {
				t.Errorf("%s links to %s, but the page has no such heading", page, m[1])
			}
		}
	}
}

// anchors returns the anchors of a page's headings, formed as GitHub does.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ +(.*)$`).FindAllStringSubmatch(code.ReplaceAllString(page, ""), -1) {
		words := strings.ToLower(regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(m[1], ""))
		found[strings.ReplaceAll(words, " ", "-")] = true
	}
	return found
}

func TestEveryNamedTestExists(t *testing.T) {
	defined := map[string]bool{}
	for _, source := range files(t, "_test.go") {
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w+)\(`).FindAllStringSubmatch(source, -1) {
			defined[m[1]] = true
		}
	}
	for page, text := range pages(t) {
		named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w+)`").FindAllStringSubmatch(text, -1)
		if page == "docs/promises.md" && len(named) < 60 {
			t.Errorf("%s names only %d tests", page, len(named))
		}
		for _, m := range named {
			if !defined[m[1]] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

// TestEveryCodeBlockCompiles finds each block of Go in the README and in docs in a source file of the project, line by line. The
// compiler has checked that file.
func TestEveryCodeBlockCompiles(t *testing.T) {
	sources := map[string]string{}
	for name, text := range files(t, ".go") {
		sources[name] = "\n" + trimmed(text)
	}
	blocks := 0
	for page, text := range pages(t) {
		for _, m := range regexp.MustCompile("(?ms)^ *```go\n(.*?)^ *```$").FindAllStringSubmatch(text, -1) {
			blocks++
			block, found := "\n"+trimmed(m[1]), false
			for _, source := range sources {
				found = found || strings.Contains(source, block)
			}
			if !found {
				t.Errorf("%s has a block of Go that is in no source file:\n%s", page, m[1])
			}
		}
	}
	if blocks < 10 {
		t.Errorf("found only %d blocks", blocks)
	}
}

// trimmed removes the indentation of each line and blank lines.
func trimmed(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
