package main

import (
	"os"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
)

// host is what this machine says about unsigned modules; empty where it does not say.
type host struct {
	release    string // of the running kernel
	lockdown   string // /sys/kernel/security/lockdown
	sigEnforce string // /sys/module/module/parameters/sig_enforce
	secureBoot []byte // the EFI variable: four bytes of attributes, then 1 where it is on
}

func readHost() host {
	read := func(name string) []byte {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil
		}
		return data
	}
	return host{
		release:    strings.TrimSpace(string(read("/proc/sys/kernel/osrelease"))),
		lockdown:   string(read("/sys/kernel/security/lockdown")),
		sigEnforce: string(read("/sys/module/module/parameters/sig_enforce")),
		secureBoot: read("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"),
	}
}

// refusesUnsigned says why a kernel of a configuration refuses an unsigned module:
// here, where this machine runs that release, or under which circumstances.
func refusesUnsigned(config, release string, h host) (here bool, why string) {
	on := func(option string) bool { return strings.Contains("\n"+config, "\n"+option+"=y\n") }
	if !on("CONFIG_MODULE_SIG") && !on("CONFIG_SECURITY_LOCKDOWN_LSM") {
		return false, ""
	}
	if on("CONFIG_MODULE_SIG_FORCE") {
		return true, "the kernel takes signed modules only (CONFIG_MODULE_SIG_FORCE)"
	}
	if h.release == release {
		switch {
		case strings.Contains(h.lockdown, "[integrity]"), strings.Contains(h.lockdown, "[confidentiality]"):
			return true, "this machine's kernel is locked down: insmod says \"Operation not permitted\""
		case strings.HasPrefix(h.sigEnforce, "Y"):
			return true, "this machine's kernel takes signed modules only (module.sig_enforce): insmod says \"Key was rejected by service\""
		case len(h.secureBoot) == 5 && h.secureBoot[4] == 1 && on("CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT"):
			return true, "this machine boots with Secure Boot, which locks the kernel down"
		}
		return false, ""
	}
	if on("CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT") {
		return false, "machines with Secure Boot, lockdown or module.sig_enforce refuse it: insmod says \"Operation not permitted\" or \"Key was rejected by service\""
	}
	return false, "machines with module.sig_enforce refuse it: insmod says \"Key was rejected by service\""
}

// enforcement tells of kernels that will refuse the module for want of a signature.
func enforcement(k *target, out string) []diag.Diagnostic {
	config, err := k.file("config")
	if err != nil {
		return nil
	}
	here, why := refusesUnsigned(string(config), k.release, readHost())
	if why == "" {
		return nil
	}
	d := failure(codeSigning, diag.Place{File: out}, "Sign it: --sign-key and --sign-cert, with a key that the machine trusts (mokutil --import CERT).", "the module is not signed; %s", why)
	d.Severity = diag.SevNote
	if here {
		d.Severity = diag.SevWarning
	}
	return []diag.Diagnostic{d}
}
