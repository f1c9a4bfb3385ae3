package conformance

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/conformance.md names every scenario, and every name in it is a scenario.
func TestMatrixNamesEveryScenario(t *testing.T) {
	b, err := os.ReadFile("../../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([a-z0-9]+(?:-[a-z0-9]+)+)`")
	var named []string
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) < 2 || strings.HasPrefix(line, "| Behaviour") {
			continue
		}
		last := cells[len(cells)-1]
		if strings.TrimSpace(last) == "" {
			t.Errorf("row without a scenario or a reason: %s", line)
		}
		for _, m := range quoted.FindAllStringSubmatch(last, -1) {
			named = append(named, m[1])
		}
	}
	for _, c := range All() {
		if !slices.Contains(named, c.Name) {
			t.Errorf("no row names %s", c.Name)
		}
		named = slices.DeleteFunc(named, func(n string) bool { return n == c.Name })
	}
	for _, n := range named {
		t.Errorf("a row names %s, which is not a scenario", n)
	}
}
