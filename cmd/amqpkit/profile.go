package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// A profile is a broker in the configuration file.
type profile struct {
	URL          string `json:"url"`
	Management   string `json:"management"` // URL of the management API
	User         string `json:"user"`
	Password     string `json:"password"`
	PasswordFile string `json:"password_file"`
	CA           string `json:"ca"`
	Cert         string `json:"cert"`
	Key          string `json:"key"`

	where string // the origin of URL, for errors
}

// Format writes the name of the profile only, so that no formatting shows the password.
func (p profile) Format(s fmt.State, _ rune) { fmt.Fprint(s, p.where) }

// readProfile reads a profile from the configuration file. If it is not required, the file may be missing.
func (a *app) readProfile(name string, required bool) (p profile, err error) {
	file, err := a.configFile()
	if err != nil {
		return p, err
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !required {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read the profile %s: %w", validate.Quote(name), err)
	}
	var config struct {
		Profiles map[string]profile `json:"profiles"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&config); err != nil {
		return p, fmt.Errorf("%s%s: %w; see amqpkit --help for its form", file, position(b, err), err)
	}
	p, ok := config.Profiles[name]
	switch {
	case !ok && !required:
		return p, nil
	case !ok:
		names := slices.Sorted(maps.Keys(config.Profiles))
		return p, usage("%s has no profile %s; it has %s", file, validate.Quote(name), strings.Join(names, ", "))
	case p.URL == "":
		return p, usage(`%s: the profile %s has no "url"`, file, validate.Quote(name))
	}
	p.where = "profile " + name
	for _, path := range []*string{&p.PasswordFile, &p.CA, &p.Cert, &p.Key} { // relative to the configuration file
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(filepath.Dir(file), *path)
		}
	}
	if p.Password != "" || hasSecret(p.URL) {
		a.warnReadable(file)
	}
	return p, nil
}

// configFile returns the path of the configuration file.
func (a *app) configFile() (string, error) {
	if file := a.getenv("AMQPKIT_CONFIG"); file != "" {
		return file, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration file: %w; set AMQPKIT_CONFIG", err)
	}
	return filepath.Join(dir, "amqpkit", "config.json"), nil
}

// warnReadable warns about a file with a secret that other users can read.
func (a *app) warnReadable(file string) {
	if info, err := os.Stat(file); err == nil && runtime.GOOS != "windows" && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		a.warn("other users can read the password in %s; run chmod 600 %s", file, file)
	}
}

// position returns the line and column of a JSON error, as ":2:14", if it has them.
func position(b []byte, err error) string {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	var at int64
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &wrong):
		at = wrong.Offset
	default:
		return ""
	}
	before := b[:min(int(at), len(b))]
	line := bytes.Count(before, []byte("\n")) + 1
	return fmt.Sprintf(":%d:%d", line, len(before)-bytes.LastIndexByte(before, '\n')-1)
}
