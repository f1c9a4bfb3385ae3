package topologyfile

import _ "embed"

//go:embed topology.schema.json
var formSchema []byte

//go:embed definitions.schema.json
var definitionsSchema []byte

// Schema returns the JSON Schema (draft 7) of the YAML form, for editors. It is the file topology.schema.json of this package:
// the YAML language server reads it if the first line of a file is
//
//	# yaml-language-server: $schema=https://raw.githubusercontent.com/amqpkit/amqpkit/main/topology/topologyfile/topology.schema.json
//
// The schema knows keys and types. [Load] checks more.
func Schema() []byte { return append([]byte(nil), formSchema...) }

// DefinitionsSchema returns the JSON Schema (draft 7) of RabbitMQ's definitions as [Load] reads them: the file
// definitions.schema.json of this package. A definitions file may name it in the key "$schema".
func DefinitionsSchema() []byte { return append([]byte(nil), definitionsSchema...) }
