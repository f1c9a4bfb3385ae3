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

// What is between these two lines of benchmarks.md is written by make bench; what is outside is kept.
const (
	measuredBegin = "<!-- measured by make bench, which writes this part anew -->\n"
	measuredEnd   = "<!-- end of what make bench writes -->\n"
)

// preface is what a new benchmarks.md begins with.
//
//go:embed preface.md
var preface string

// write puts benchmarks.md, its charts and benchmarks.json into dir.
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

func replaceMeasured(page, measured string) (string, error) {
	before, rest, ok := strings.Cut(page, measuredBegin)
	_, after, ok2 := strings.Cut(rest, measuredEnd)
	if !ok || !ok2 {
		return "", fmt.Errorf("the lines %q and %q are not in it", measuredBegin, measuredEnd)
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
