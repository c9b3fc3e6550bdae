package controlplane

import (
	"context"
	"log"
	"os"
	"syscall"
	"time"
)

const (
	// A lab that nobody uses ends after this.
	idleTimeout = 2 * time.Minute
	// Users are looked for this often.
	idleInterval = 5 * time.Second
)

// usersFile is kept open, and with it locked, to the end of the process.
var usersFile *os.File

// WaitForUsers returns when ctx ends or nobody has used the lab for a while. In the second case the file stays locked until
// this process ends, so that whoever comes meanwhile waits, and then starts a lab anew.
func WaitForUsers(ctx context.Context, users string) {
	if users == "" {
		<-ctx.Done()
		return
	}
	file, err := os.OpenFile(users, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		log.Printf("cannot look for users: %v", err)
		<-ctx.Done()
		return
	}
	usersFile = file
	for idleSince := time.Now(); ctx.Err() == nil; sleep(ctx, idleInterval) {
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			idleSince = time.Now()
			continue
		}
		if time.Since(idleSince) > idleTimeout {
			return
		}
		_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
	}
}
