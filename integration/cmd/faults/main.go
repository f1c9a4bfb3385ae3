// Command faults runs one test for every scenario of the fault catalogue in docs/reliability.md, tells
// each one's result as it comes, and ends with one line: "faults: N passed, 0 failed".
//
// A scenario's tests are named after it: TestS09…. They are found in all packages of the module. A scenario without a test,
// and a test that is skipped, count as failed.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scenarios are the numbers of the catalogue. What is missing in the count was given up in it.
var scenarios = []int{
	1, 2, 3, 4, 6, 8, // connecting
	9, 10, 11, 12, 14, 15, 16, // the network
	17, 18, 19, 20, 21, 22, 23, 24, 25, 26, // publishing
	27, 28, 29, 30, 31, 32, 34, 35, 36, 37, // consuming
	39, 40, 41, 42, 43, 44, // topology and retry
	45, 47, // shutting down
	48, 49, 51, 52, // limits and calls
	53, 54, 55, 56, 58, 59, 60, 62, 63, 64, 65, // bad input
	66, 67, 68, 69, 70, 71, 72, 73, 74, 75, // foreign clients and public reports: messages
	76, 77, 78, 79, 80, 81, // retry and replay
	82, 83, 84, 85, 86, 87, 88, 89, // availability
	90, 91, 92, 93, // input checks and errors
	94, 95, // amqptest's fidelity
	96, 97, 98, // integrators
	99, 100, 101, // the project's own tools
}

// An event is one of go test -json (see go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
}

const allTests = "^TestS[0-9]{2}"

func main() {
	run := flag.String("run", allTests, "regular expression of the tests to run; by default all scenarios")
	flag.Parse()
	passed, failed, err := faults(*run, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
	}
	fmt.Printf("faults: %d passed, %d failed\n", passed, failed)
	if failed > 0 || err != nil {
		os.Exit(1)
	}
}

func faults(run string, out io.Writer) (passed, failed int, err error) {
	packages, err := find(".", run)
	if err != nil {
		return 0, 0, err
	}
	args := append([]string{"test", "-race", "-json", "-count=1", "-p=3", "-timeout=40m", "-run=" + run}, packages...)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	r := report{out: out, output: map[string][]string{}, seen: map[int]bool{}, bad: map[string]bool{}}
	r.read(pipe)
	if err := cmd.Wait(); err != nil && r.failed == 0 {
		return r.passed, r.failed, fmt.Errorf("go test: %w", err)
	}
	if run == allTests {
		for _, n := range scenarios {
			if !r.seen[n] {
				r.failed++
				fmt.Fprintf(out, "MISSING  S%02d has no test\n", n)
			}
		}
	}
	return r.passed, r.failed, nil
}

// scenario matches the declaration of a scenario's test.
var scenario = regexp.MustCompile(`(?m)^func (TestS\d{2}\w*)\(`)

// find returns the packages of the module at root that have scenario tests which match run.
func find(root, run string) (packages []string, err error) {
	run, _, _ = strings.Cut(run, "/") // without subtests
	matches, err := regexp.Compile(run)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if path != root && (err == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) { // no package of the module
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		for _, m := range scenario.FindAllSubmatch(source, -1) {
			if dir := "./" + filepath.ToSlash(filepath.Dir(path)); matches.Match(m[1]) && !slices.Contains(packages, dir) {
				packages = append(packages, dir)
			}
		}
		return err
	})
	if err == nil && len(packages) == 0 {
		err = fmt.Errorf("no scenario test matches %s", run)
	}
	return packages, err
}

type report struct {
	out            io.Writer
	output         map[string][]string // of each running test, shown if it fails
	seen           map[int]bool
	bad            map[string]bool // packages with a test that failed
	passed, failed int
}

var name = regexp.MustCompile(`^TestS(\d{2,3})(?:\D[^/]*)?$`)

func (r *report) read(pipe io.Reader) {
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(r.out, lines.Text()) // go's own words, about a build for instance
			continue
		}
		r.take(e)
	}
}

func (r *report) take(e event) {
	test, _, _ := strings.Cut(e.Test, "/")
	key := e.Package + " " + test
	m := name.FindStringSubmatch(test)
	switch {
	case e.Action == "output":
		r.output[key] = append(r.output[key], e.Output)
		if m == nil && strings.HasPrefix(e.Output, "testing on") {
			fmt.Fprint(r.out, e.Output)
		}
	case e.Action == "build-output":
		fmt.Fprint(r.out, e.Output)
	case e.Action == "fail" && e.Test == "":
		if !r.bad[e.Package] { // so it was outside of any test: a leak, a broker that does not start, a build
			r.failed++
			r.show("FAILED", key, e)
		}
	case m == nil || e.Test != test:
	case e.Action == "pass":
		r.passed++
		r.tick(m[1])
		fmt.Fprintf(r.out, "ok       %s %s\n", test, seconds(e.Elapsed))
		delete(r.output, key)
	case e.Action == "fail":
		r.failed++
		r.bad[e.Package] = true
		r.tick(m[1])
		r.show("FAILED", key, e)
	case e.Action == "skip":
		r.failed++
		r.tick(m[1])
		r.show("SKIPPED", key, e)
	}
}

func (r *report) tick(number string) {
	n, _ := strconv.Atoi(number)
	if slices.Contains(scenarios, n) {
		r.seen[n] = true
	}
}

func (r *report) show(what, key string, e event) {
	fmt.Fprintf(r.out, "%-8s %s %s\n", what, strings.TrimSpace(key), seconds(e.Elapsed))
	for _, line := range r.output[key] {
		fmt.Fprint(r.out, "         ", line)
	}
	delete(r.output, key)
}

func seconds(s float64) string {
	return "(" + (time.Duration(s*1000) * time.Millisecond).String() + ")"
}
