package redistest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to end after SIGTERM. Redis waits
// up to 10 s for its replicas.
const stopTimeout = 20 * time.Second

// process is a child that somebody waits for.
type process struct {
	p    *os.Process
	done chan struct{} // closed when it has ended
}

// spawn starts cmd. A goroutine stays with it for as long as it lives, locked
// to its thread: the kernel sends the parent-death signal when the thread that
// started the child ends, not the process (golang/go#27505).
func spawn(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = dieWithParent()
	started := make(chan error)
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // how it ended is known to whoever ended it, or is in its log
		close(done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return &process{p: cmd.Process, done: done}, nil
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends sig; a process that has ended is no error.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("redistest: send %v: %w", sig, err)
	}
	return nil
}

// end sends sig and waits until the process is gone. One that does not go by
// itself is killed, which is then an error.
func (p *process) end(sig syscall.Signal) error {
	if err := p.signal(sig); err != nil {
		return err
	}
	if err := p.signal(syscall.SIGCONT); err != nil { // a paused process sees no SIGTERM
		return err
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	err := fmt.Errorf("redistest: the process did not end within %v of %v", stopTimeout, sig)
	if kerr := p.signal(syscall.SIGKILL); kerr != nil {
		return errors.Join(err, kerr)
	}
	<-p.done
	return err
}
