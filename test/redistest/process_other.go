//go:build !linux

package redistest

import "syscall"

// dieWithParent has no counterpart here: the child of a parent that is killed
// stays until somebody ends it.
func dieWithParent() *syscall.SysProcAttr { return nil }
