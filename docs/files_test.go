package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/amqpkit/amqpkit/topology/topologyfile"
)

func TestPageTopologyFiles(t *testing.T) {
	page := pages(t)["docs/topology-files.md"]
	forms := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(page, -1)
	if len(forms) != 2 {
		t.Fatalf("the page has %d topologies, want 2", len(forms))
	}
	for _, m := range forms {
		if got, err := topologyfile.Parse([]byte(m[1])); err != nil || len(got.Queues) < 2 {
			t.Errorf("Parse = %+v, %v of\n%s", got, err, m[1])
		}
	}
	// The errors are the output of tests.
	var outputs strings.Builder
	for _, name := range []string{"example_test.go", "load_test.go", "testdata/faults.txt"} {
		text, err := os.ReadFile("../topology/topologyfile/" + name)
		if err != nil {
			t.Fatal(err)
		}
		outputs.Write(text)
	}
	shown := regexp.MustCompile(`(?m)^topology: (.*)$`).FindAllStringSubmatch(page, -1)
	if len(shown) < 5 {
		t.Errorf("the page shows only %d errors", len(shown))
	}
	for _, m := range shown {
		text := strings.TrimPrefix(m[1], "orders.yaml:")
		if !strings.Contains(outputs.String(), text) {
			t.Errorf("no test has the output %s", text)
		}
	}
}
