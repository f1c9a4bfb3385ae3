package servers

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	folderPattern = "amqpkit-server-*"
	lockName      = "lock"
)

// A folder is the temporary folder of a server. It belongs to the account that runs the server. This process holds a lock
// on a file in it, so that later processes recognize a folder whose process was killed.
type folder struct {
	path  string
	as    *syscall.Credential // nil for the account of this process
	owner *os.File
}

func supported() error { return nil }

// newFolder creates a folder for a server that runs as account if this process runs as root. Servers refuse to run as
// root; the account "nobody" is used if account does not exist.
func newFolder(account string) (*folder, error) {
	removeStaleFolders()
	path, err := os.MkdirTemp("", folderPattern)
	if err != nil {
		return nil, err
	}
	f := &folder{path: path}
	if account != "" && os.Geteuid() == 0 {
		f.as, err = credential(account, "nobody")
	}
	if err == nil {
		err = f.lock()
	}
	if err == nil {
		err = f.own(path)
	}
	if err != nil {
		_ = f.remove()
		return nil, err
	}
	return f, nil
}

// credential returns the first account that exists.
func credential(accounts ...string) (c *syscall.Credential, err error) {
	for _, name := range accounts {
		var u *user.User
		if u, err = user.Lookup(name); err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, err
}

// lock creates the file with the lock. It gets its name when it is locked: another process would take an unlocked one for
// stale.
func (f *folder) lock() error {
	temporary := f.file(lockName + ".new")
	var err error
	if f.owner, err = os.OpenFile(temporary, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(f.owner.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	return os.Rename(temporary, f.file(lockName))
}

func (f *folder) own(path string) error {
	if f.as == nil {
		return nil
	}
	return os.Chown(path, int(f.as.Uid), int(f.as.Gid))
}

// file returns the path of a file in the folder.
func (f *folder) file(name string) string { return filepath.Join(f.path, name) }

// write writes a file that only the server can read.
func (f *folder) write(name, text string) (path string, err error) {
	path = f.file(name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", err
	}
	return path, f.own(path)
}

// remove removes the folder after the server has exited.
func (f *folder) remove() error {
	removeSharedMemory(f.path)
	if f.owner != nil {
		defer f.owner.Close()
	}
	return os.RemoveAll(f.path)
}

// removeStaleFolders removes the folders of processes that exited without doing so.
func removeStaleFolders() {
	locks, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPattern, lockName))
	for _, path := range locks {
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = (&folder{path: filepath.Dir(path)}).remove()
		}
		_ = file.Close()
	}
}

// removeSharedMemory removes the segment with which PostgreSQL protects its data folder from a second server. A killed
// PostgreSQL leaves it behind. Line 7 of its pid file holds the segment's key and id.
func removeSharedMemory(path string) {
	text, err := os.ReadFile(filepath.Join(path, "data", "postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return
	}
	fields := strings.Fields(lines[6])
	if len(fields) != 2 {
		return
	}
	key, err1 := strconv.ParseInt(fields[0], 10, 64)
	id, err2 := strconv.Atoi(fields[1])
	var segment unix.SysvShmDesc
	if err1 != nil || err2 != nil {
		return
	}
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &segment); err != nil || uint32(segment.Perm.Key) != uint32(key) || segment.Nattch != 0 {
		return // the id belongs to another segment by now
	}
	_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
}
