package servers

import (
	"os/exec"
	"path/filepath"
)

// find returns the path of a program in one of the folders or in $PATH, or "". The folders come first: they hold the
// programs of the package, and $PATH of an ordinary user does not contain them.
func find(program string, folders ...string) string {
	for _, folder := range folders {
		if path, err := exec.LookPath(filepath.Join(folder, program)); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return ""
	}
	return path
}
