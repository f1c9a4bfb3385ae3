package servers

import "path/filepath"

// SQLiteFile returns the path of a database file that does not exist yet, in a temporary folder, and a function that
// removes the folder. A program that opens the file imports a driver, such as modernc.org/sqlite.
func SQLiteFile() (path string, remove func() error, err error) {
	f, err := newFolder("")
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(f.path, "database.sqlite"), f.remove, nil
}
