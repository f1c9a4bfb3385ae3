package topologyfile_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/amqpkit/amqpkit/topology/topologyfile"
)

var variables = map[string]string{"NAME": "orders", "MAX": "1000", "TTL": "90s", "ON": "true", "EMPTY": "", "LINES": "a: b\nc: ${NAME}"}

func loader() topologyfile.Loader {
	return topologyfile.Loader{LookupEnv: func(name string) (string, bool) {
		v, ok := variables[name]
		return v, ok
	}}
}

// A badFile is an entry of testdata/faults.txt.
type badFile struct {
	name, ext string
	schema    string // "schema" if the schema refuses the file too, "syntax" if it cannot be asked, "" if it accepts the file
	data      []byte
	want      string
}

func badFiles(t *testing.T) []badFile {
	t.Helper()
	text, err := os.ReadFile("testdata/faults.txt")
	if err != nil {
		t.Fatal(err)
	}
	var files []badFile
	head := regexp.MustCompile(`^(.*) \((yaml|json)(?:, (schema|syntax))?\)$`)
	for _, entry := range strings.Split("\n"+string(text), "\n=== ")[1:] {
		first, rest, _ := strings.Cut(entry, "\n")
		m := head.FindStringSubmatch(first)
		data, want, ok := strings.Cut(rest, "\n--- faults")
		if m == nil || !ok {
			t.Fatalf("testdata/faults.txt: bad entry %q", first)
		}
		files = append(files, badFile{m[1], m[2], m[3], []byte(data + "\n"), strings.TrimSpace(want)})
	}
	return files
}

func TestFaultsNameFileLineColumnFieldAndFix(t *testing.T) {
	files := badFiles(t)
	if len(files) < 40 {
		t.Fatalf("found only %d files", len(files))
	}
	for _, file := range files {
		t.Run(file.name, func(t *testing.T) {
			name := "topology." + file.ext
			_, err := loader().Load(fstest.MapFS{name: {Data: file.data}}, name)
			if err == nil {
				t.Fatal("the file is accepted")
			}
			if got := strings.ReplaceAll(err.Error(), "topology: "+name+":", ""); got != file.want {
				t.Errorf("got\n%s\nwant\n%s", got, file.want)
			}
		})
	}
}

func TestSchemasRefuseWhatTheyCanKnow(t *testing.T) {
	schemas := map[string]*jsonschema.Resolved{"yaml": resolved(t, topologyfile.Schema()), "json": resolved(t, topologyfile.DefinitionsSchema())}
	for _, file := range badFiles(t) {
		if file.schema == "syntax" {
			continue
		}
		t.Run(file.name, func(t *testing.T) {
			err := schemas[file.ext].Validate(generic(t, file.ext, file.data))
			if refuses := file.schema == "schema"; (err != nil) != refuses {
				t.Errorf("the schema says %v, want it to refuse: %v", err, refuses)
			}
		})
	}
}

func resolved(t *testing.T, schema []byte) *jsonschema.Resolved {
	t.Helper()
	var s jsonschema.Schema
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// generic returns a file as an editor reads it.
func generic(t *testing.T, ext string, data []byte) any {
	t.Helper()
	var v any
	if ext == "yaml" {
		if err := yaml.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		data = asJSON
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
