package logs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// attrs are the functions of package slog whose first argument is a key, and pairs are the methods of a Logger with alternating keys
// and values, by the index of the first key.
var (
	attrs = []string{"Any", "Bool", "Duration", "Float64", "Group", "GroupAttrs", "Int", "Int64", "String", "Time", "Uint64"}
	pairs = map[string]int{
		"With": 0, "DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2,
	}
)

// keysIn adds the attribute keys in the calls of a file.
func keysIn(file *ast.File, keys map[string]bool) {
	add := func(arg ast.Expr) {
		if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if key, err := strconv.Unquote(lit.Value); err == nil {
				keys[key] = true
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := f.X.(*ast.Ident); ok && x.Name == "slog" && slices.Contains(attrs, f.Sel.Name) {
			add(call.Args[0])
		} else if first, ok := pairs[f.Sel.Name]; ok {
			for i := first; i+1 < len(call.Args); i += 2 { // a key without a value is another method
				add(call.Args[i])
			}
		}
		return true
	})
}

// The keys are listed in the package comment as "//   - group: key (explanation), key, …".
func TestThePackageCommentListsTheAttributeKeysOfAllPackages(t *testing.T) {
	used := map[string]bool{}
	var doc string
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name := d.Name(); path != root && (name[0] == '.' || slices.Contains([]string{"amqptest", "examples", "integration", "tools", "testdata"}, name)) {
				return fs.SkipDir // not linked into the programs of users
			}
			return nil
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		if path == filepath.Join(root, "internal", "logs", "logs.go") {
			doc = file.Doc.Text()
		}
		keysIn(file, used)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, group := range regexp.MustCompile(`(?m)^ +- [a-z ]+:((?:.|\n   )*)`).FindAllStringSubmatch(doc, -1) {
		for key := range strings.SplitSeq(regexp.MustCompile(`\([^)]*\)`).ReplaceAllString(group[1], ""), ",") {
			listed[strings.TrimSpace(key)] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(listed)); !slices.Equal(got, want) {
		t.Errorf("keys in log lines:\n%q\nkeys in the package comment:\n%q", got, want)
	}
}
