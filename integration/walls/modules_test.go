package walls

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the folder of the root module.
const root = "../.."

// drivers are modules whose version a user's program depends on. They belong into nested modules.
var drivers = []string{
	"github.com/jackc/pgx", "github.com/lib/pq", "github.com/go-sql-driver/mysql", "modernc.org/sqlite", "github.com/mattn/go-sqlite3",
}

// goMod is the part of `go mod edit -json` that the tests check.
type goMod struct {
	Module  struct{ Path string }
	Require []goModule
	Replace []struct{ Old, New goModule }
}

type goModule struct{ Path, Version string }

func TestMakefileListsEveryNestedModule(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?m)^modules := (.*)$`).FindSubmatch(makefile)
	if list == nil {
		t.Fatal("the Makefile has no list of modules")
	}
	listed, found := strings.Fields(string(list[1])), nested(t)
	slices.Sort(listed)
	if !slices.Equal(listed, found) {
		t.Errorf("the Makefile lists the modules %q, the folders with a go.mod are %q", listed, found)
	}
}

func TestNestedModulesReplaceTheModulesOfThisRepositoryAndNothingElse(t *testing.T) {
	for _, folder := range nested(t) {
		m := edit(t, folder)
		if want := module + "/" + folder; m.Module.Path != want {
			t.Errorf("%s: module %s, want %s", folder, m.Module.Path, want)
		}
		var want, got []string
		for _, r := range m.Require {
			if r.Path != module && !strings.HasPrefix(r.Path, module+"/") {
				continue
			}
			path, err := filepath.Rel(folder, "."+strings.TrimPrefix(r.Path, module))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, r.Path+" => "+filepath.ToSlash(path))
		}
		for _, r := range m.Replace {
			got = append(got, strings.TrimSpace(r.Old.Path+" "+r.Old.Version)+" => "+strings.TrimSpace(r.New.Path+" "+r.New.Version))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s/go.mod: replace %q, want %q", folder, got, want)
		}
	}
}

func TestRootModuleHasNoDatabaseDriver(t *testing.T) {
	m := edit(t, ".")
	for _, r := range m.Require {
		if slices.ContainsFunc(drivers, func(d string) bool { return r.Path == d || strings.HasPrefix(r.Path, d+"/") }) {
			t.Errorf("the root's go.mod requires %s; use a nested module", r.Path)
		}
	}
	if len(m.Replace) > 0 {
		t.Errorf("the root's go.mod has replace lines: %v", m.Replace)
	}
}

// nested returns the folders of the nested modules, sorted.
func nested(t *testing.T) []string {
	t.Helper()
	var folders []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."), d.Name() == "testdata":
			return fs.SkipDir
		case d.Name() == "go.mod" && filepath.Dir(path) != root:
			folder, err := filepath.Rel(root, filepath.Dir(path))
			folders = append(folders, filepath.ToSlash(folder))
			return err
		case d.Name() == "go.work":
			t.Errorf("%s: the modules are independent; remove it", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(folders)
	return folders
}

func edit(t *testing.T, folder string) (m goMod) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", filepath.Join(root, folder, "go.mod")).Output()
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil {
		t.Fatalf("go mod edit in %s: %v", folder, err)
	}
	return m
}
