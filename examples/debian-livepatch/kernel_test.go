package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kdelta/kdelta/pkg/diag"
)

func TestModuleFile(t *testing.T) {
	order := "kernel/net/sched/act_gact.ko\nkernel/fs/isofs/isofs.ko\nkernel/drivers/a/core.ko\nkernel/drivers/a/b/core.ko\nkernel/drivers/c/one-two.ko\nkernel/x/twice.ko\nkernel/y/twice.ko\n"
	for _, c := range []struct{ source, module, want string }{
		{"net/sched/act_gact.c", "act_gact", "kernel/net/sched/act_gact.ko"},
		{"fs/isofs/rock.c", "isofs", "kernel/fs/isofs/isofs.ko"},
		{"drivers/a/b/x.c", "core", "kernel/drivers/a/b/core.ko"},
		{"drivers/a/bb/x.c", "core", "kernel/drivers/a/core.ko"},
		{"drivers/c/sub/x.c", "one_two", "kernel/drivers/c/one-two.ko"},
		{"drivers/elsewhere/x.c", "isofs", "kernel/fs/isofs/isofs.ko"},
		{"fs/x.c", "missing", ""},
		{"z/x.c", "twice", ""},
	} {
		got, err := moduleFile(order, c.source, c.module)
		require.Equal(t, c.want, got)
		require.Equal(t, c.want == "", err != nil)
	}
}

func TestCompiler(t *testing.T) {
	require.Equal(t, "gcc-12", compilerOf("override ARCH = x86\nCCACHE = ccache\nCC = $(if $(DEBIAN_KERNEL_USE_CCACHE),$(CCACHE)) $(CROSS_COMPILE)gcc-12\n"))
	require.Equal(t, "x86_64-linux-gnu-gcc-12", compilerOf("CC := x86_64-linux-gnu-gcc-12\n"))
	require.Empty(t, compilerOf("CCACHE = x\n"))
	require.True(t, sameCompiler("x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0", "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"))
	require.False(t, sameCompiler("gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0", "gcc-12 (Debian 12.2.0-14) 12.2.0"))
	require.False(t, sameCompiler("", ""))
	require.Equal(t, "gcc (D) 1", configString("CONFIG_A=y\nCONFIG_CC_VERSION_TEXT=\"gcc (D) 1\"\n", "CONFIG_CC_VERSION_TEXT"))
}

func TestCheckPath(t *testing.T) {
	require.NoError(t, checkPath("/home/u/.cache/debian-livepatch"))
	for _, bad := range []string{"/a b", "/a:b", "/a%b", "/a\nb", "/a$b"} {
		require.Error(t, checkPath(bad), bad)
	}
}

func TestRefusesUnsigned(t *testing.T) {
	const config = "CONFIG_MODULE_SIG=y\nCONFIG_SECURITY_LOCKDOWN_LSM=y\nCONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT=y\n"
	for _, c := range []struct {
		config string
		h      host
		here   bool
		says   string
	}{
		{"", host{}, false, ""},
		{config, host{release: "other", lockdown: "[integrity]"}, false, "Secure Boot, lockdown or module.sig_enforce"},
		{config, host{release: "1", lockdown: "none [integrity] confidentiality"}, true, "locked down"},
		{config, host{release: "1", sigEnforce: "Y\n"}, true, "sig_enforce"},
		{config, host{release: "1", secureBoot: []byte{6, 0, 0, 0, 1}}, true, "Secure Boot"},
		{config, host{release: "1", lockdown: "[none] integrity", sigEnforce: "N\n", secureBoot: []byte{6, 0, 0, 0, 0}}, false, ""},
		{config + "CONFIG_MODULE_SIG_FORCE=y\n", host{release: "other"}, true, "signed modules only"},
		{"CONFIG_MODULE_SIG=y\n", host{}, false, "module.sig_enforce"},
	} {
		here, why := refusesUnsigned(c.config, "1", c.h)
		require.Equal(t, c.here, here, why)
		require.Contains(t, why, c.says)
		require.Equal(t, c.says == "", why == "")
	}
}

func TestMissingNames(t *testing.T) {
	require.Equal(t, []string{"tcf_valid", "newer", "flag", "thing_t"}, missingNames(compilerErrors(`fs/x.c: In function 'f':
fs/x.c:1:2: error: implicit declaration of function 'tcf_valid'; did you mean 'x'? [-Werror=implicit-function-declaration]
fs/x.c:2:2: error: ‘struct s’ has no member named ‘newer’
fs/x.c:3:2: error: 'flag' undeclared (first use in this function)
fs/x.c:4:1: error: unknown type name 'thing_t'
fs/x.c:5:1: warning: unused variable 'v'
`)))
}

func TestExitCode(t *testing.T) {
	e := func(codes ...diag.Code) (ds []diag.Diagnostic) {
		for _, c := range codes {
			ds = append(ds, failure(c, diag.Place{}, "", ""))
		}
		return ds
	}
	note := failure(codeSigning, diag.Place{}, "", "")
	note.Severity = diag.SevNote
	require.Equal(t, exitWritten, exitCode([]diag.Diagnostic{note}))
	require.Equal(t, exitNothing, exitCode(e(diag.NothingChanged)))
	require.Equal(t, exitRefused, exitCode(e(diag.NoFtraceEntry)))
	require.Equal(t, exitRefused, exitCode(e(diag.NothingChanged, codeApply)))
	require.Equal(t, exitTrouble, exitCode(e(codePackage, diag.DataChanged)))
}
