package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestEveryWayToFailIsCountedOnceAndShown(t *testing.T) {
	var out bytes.Buffer
	r := report{out: &out, output: map[string][]string{}, seen: map[int]bool{}, bad: map[string]bool{}}
	r.read(strings.NewReader(`
{"Action":"pass","Package":"p","Test":"TestS01Good/sub","Elapsed":1}
{"Action":"pass","Package":"p","Test":"TestS01Good","Elapsed":1.5}
{"Action":"pass","Package":"p","Test":"TestS100Good","Elapsed":1}
{"Action":"output","Package":"p","Test":"TestS02Bad","Output":"why\n"}
{"Action":"fail","Package":"p","Test":"TestS02Bad","Elapsed":1}
{"Action":"fail","Package":"p"}
{"Action":"skip","Package":"q","Test":"TestS09Skipped"}
{"Action":"output","Package":"q","Output":"leaked\n"}
{"Action":"fail","Package":"q"}
{"Action":"pass","Package":"r","Test":"TestOther"}
{"Action":"pass","Package":"r"}
`))
	if r.passed != 2 || r.failed != 3 {
		t.Errorf("%d passed, %d failed, want 2 and 3", r.passed, r.failed)
	}
	for _, want := range []string{"ok       TestS01Good (1.5s)\n", "FAILED   p TestS02Bad (1s)\n         why\n", "SKIPPED  q TestS09Skipped", "FAILED   q (0s)\n         leaked\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &out)
		}
	}
	if !r.seen[1] || !r.seen[2] || !r.seen[9] || r.seen[3] || r.seen[10] || !r.seen[100] {
		t.Errorf("seen: %v", r.seen)
	}
}

func TestFindReturnsThePackagesOfScenarios(t *testing.T) {
	all, err := find("../../..", allTests)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/consumer", "/integration/cmd/faults"} {
		if !slices.ContainsFunc(all, func(dir string) bool { return strings.HasSuffix(dir, want) }) {
			t.Errorf("%s is not among %q", want, all)
		}
	}
	if one, err := find("../../..", "^TestS99Other/x"); err != nil || len(one) != 1 {
		t.Errorf("find TestS99Other = %q, %v; want this package", one, err)
	}
	if none, err := find("../../..", "^TestS99No"); err == nil {
		t.Errorf("find of a test that does not exist = %q", none)
	}
}

// CI runs make lint, which vets the packages that users build for other platforms, and make test, which runs their unit tests
// with 32-bit integers.
func TestS99OtherPlatformsArePartOfCI(t *testing.T) {
	makefile, err := os.ReadFile("../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	recipes := map[string]string{} // by their targets
	target := ""
	for line := range strings.Lines(string(makefile)) {
		if name, rest, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "\t") {
			target, line = name, rest
		}
		recipes[target] += line
	}
	for target, words := range map[string][]string{
		"test": {"unit-386"}, "lint": {"windows/", "darwin/", "freebsd/", "linux/386", "go vet"}, "unit-386": {"GOARCH=386", "go test"},
	} {
		for _, word := range words {
			if !strings.Contains(recipes[target], word) {
				t.Errorf("the recipe of make %s lacks %q", target, word)
			}
		}
	}
	ci, err := os.ReadFile("../../../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"make test\n", "make lint\n"} {
		if !strings.Contains(string(ci), "\n"+command) {
			t.Errorf("CI does not run %q", command)
		}
	}
}
