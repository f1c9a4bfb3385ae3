package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// make bench replaces the part of benchmarks.md between these two lines and keeps the rest.
const (
	measuredBegin = "<!-- make bench writes the part from here … -->\n"
	measuredEnd   = "<!-- … to here -->\n"
)

// preface is the first part of a new benchmarks.md.
//
//go:embed preface.md
var preface string

// write writes benchmarks.md, its charts and benchmarks.json to dir.
func (r report) write(ctx context.Context, dir string, d drawer) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "benchmarks.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	charts := r.charts()
	if err := d.draw(ctx, charts, dir); err != nil {
		return err
	}
	file := filepath.Join(dir, "benchmarks.md")
	old, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = []byte(preface+"\n"+measuredBegin+measuredEnd), nil
	}
	if err != nil {
		return err
	}
	page, err := replaceMeasured(string(old), r.markdown(charts))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(page), 0o644)
}

// replaceMeasured replaces the measured part of a page.
func replaceMeasured(page, measured string) (string, error) {
	before, rest, ok := strings.Cut(page, measuredBegin)
	_, after, ok2 := strings.Cut(rest, measuredEnd)
	if !ok || !ok2 {
		return "", fmt.Errorf("the lines %q and %q are missing", measuredBegin, measuredEnd)
	}
	return before + measuredBegin + "\n" + measured + "\n" + measuredEnd + after, nil
}

func (r report) markdown(charts []chart) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s\n", r.Environment)
	for _, c := range charts {
		fmt.Fprintf(&s, "\n![%s](%s)\n", c.Title, c.File)
	}
	for _, t := range r.tables() {
		fmt.Fprintf(&s, "\n%s", t.markdown())
	}
	return s.String()
}
