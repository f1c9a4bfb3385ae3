// Package tree is a parsed JSON or YAML file whose values know their places. It reads typed values from it and reports each
// fault with line, column, path and fix.
package tree
