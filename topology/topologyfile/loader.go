package topologyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/amqpkit/amqpkit/internal/tree"
	"github.com/amqpkit/amqpkit/topology"
)

// A Loader reads files with other settings than [Parse] and [Load]. The zero value has the settings of these functions.
type Loader struct {
	// VirtualHost selects the objects of definitions files. Empty selects the only virtual host of each file.
	VirtualHost string

	// LookupEnv returns the value of an environment variable. Nil means os.LookupEnv.
	LookupEnv func(name string) (value string, set bool)

	// Unsupported is called for content of definitions files that a Topology cannot express, such as users and
	// policies. Nil makes such content an error.
	Unsupported func(file string, content topology.Unsupported)
}

// Parse is [Loader.Parse] of the zero Loader.
func Parse(data []byte) (topology.Topology, error) { return Loader{}.Parse(data) }

// Load is [Loader.Load] of the zero Loader.
func Load(fsys fs.FS, names ...string) (topology.Topology, error) {
	return Loader{}.Load(fsys, names...)
}

// Parse reads a topology from the content of one file: definitions in JSON if it begins with "{", otherwise the YAML form.
// Errors are the ones of Load.
func (l Loader) Parse(data []byte) (topology.Topology, error) {
	return finish(l.document("", data))
}

// Load reads the files and merges their topologies like [topology.Merge]. Files named *.json are definitions, files named
// *.yaml or *.yml have the YAML form; for other names, Load decides as Parse does.
//
// All faults are returned joined, each as an [*amqperr.FileError] with file, line and column: syntax errors, unknown keys,
// values of the wrong type, environment variables that are not set, objects of two files that differ, and the faults
// that [topology.Topology.Validate] finds in the merged topology. The merged topology is checked only if each file
// is correct.
func (l Loader) Load(fsys fs.FS, names ...string) (topology.Topology, error) {
	if len(names) == 0 {
		return topology.Topology{}, errors.New("topology: no file to load; name at least one")
	}
	documents := make([]*document, len(names))
	for i, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return topology.Topology{}, fmt.Errorf("topology: %w", err)
		}
		documents[i] = l.document(name, data)
	}
	return finish(documents...)
}

func (l Loader) lookup(name string) (string, bool) {
	if l.LookupEnv == nil {
		return os.LookupEnv(name)
	}
	return l.LookupEnv(name)
}

// A document is a file that was read.
type document struct {
	faults   *tree.Faults
	topology topology.Topology
	places   map[string]*tree.Node // by the field of an amqperr.FieldError without the name: "Queues[2].MessageTTL"
	json     bool
}

func (l Loader) document(name string, data []byte) *document {
	d := &document{faults: &tree.Faults{Package: "topology", File: name}, places: map[string]*tree.Node{}, json: isJSON(name, data)}
	parse := parseYAML
	if d.json {
		parse = tree.ParseJSON
	}
	root := parse(data, d.faults)
	if root == nil {
		return d
	}
	l.expand(root, d.faults)
	d.faults.Duplicates(root)
	if d.faults.Some() {
		return d
	}
	if d.json {
		l.readDefinitions(d, root)
	} else {
		d.readForm(root)
	}
	return d
}

func isJSON(name string, data []byte) bool {
	switch path.Ext(name) {
	case ".json":
		return true
	case ".yaml", ".yml":
		return false
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	return bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
}

// finish merges the documents and validates the result.
func finish(documents ...*document) (topology.Topology, error) {
	if err := faultsOf(documents); err != nil {
		return topology.Topology{}, err
	}
	return merge(documents)
}

func faultsOf(documents []*document) error {
	errs := make([]error, len(documents))
	for i, d := range documents {
		errs[i] = d.faults.Err()
	}
	return errors.Join(errs...)
}
