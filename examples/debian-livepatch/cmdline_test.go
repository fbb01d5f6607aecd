package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What make -n prints of a module's object and a built-in one, shortened.
func makeOutput(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/make.txt")
	require.NoError(t, err)
	return string(text)
}

func TestParseMake(t *testing.T) {
	cmds := parseMake(makeOutput(t), "/w/source")
	require.Len(t, cmds, 3)

	require.Equal(t, command{
		Source: "fs/fcntl.c", Compiler: "gcc-12", listed: true,
		Args: []string{"-nostdinc", "-I@SOURCE@/arch/x86/include", "-I./include", "-include", "@SOURCE@/include/linux/kconfig.h", "-D__KERNEL__",
			"-fmacro-prefix-map=@SOURCE@/=", "-O2", "-pg", "-mfentry", "-g", `-DKBUILD_MODFILE="fs/fcntl"`, `-DKBUILD_BASENAME="fcntl"`, `-DKBUILD_MODNAME="fcntl"`, "-D__KBUILD_MODNAME=kmod_fcntl"},
		Objtool: []string{"--hacks=jump_label", "--orc", "--uaccess"},
	}, cmds[0])
	require.True(t, cmds[0].perObject())

	require.Equal(t, "net/sched/act_gact.c", cmds[1].Source)
	require.Equal(t, "act_gact", cmds[1].Module)
	require.True(t, cmds[1].listed)
	require.False(t, cmds[1].perObject(), "objtool runs on the linked module")
	require.Contains(t, cmds[1].Args, "-I@SOURCE@/net/sched", "the doubled path is one")

	require.Equal(t, "lib/rhashtable.c", cmds[2].Source)
	require.False(t, cmds[2].listed, "another Makefile makes it")
	require.Empty(t, cmds[2].Objtool)

	args := cmds[0].compileArgs("/t", "/o/x.o", "/o/x.d")
	require.Equal(t, []string{"-MD", "-MF", "/o/x.d", "-c", "-o", "/o/x.o", "/t/fs/fcntl.c"}, args[len(args)-7:])
	require.Contains(t, args, "-fmacro-prefix-map=/t/=")
	require.Less(t, strings.Index(strings.Join(args, " "), " -g "), strings.Index(strings.Join(args, " "), " -g0 "), "ours come last")

	kvm := compileCommand([]string{"gcc", "-c", "-o", "x", "/w/source/arch/x86/kvm/../../../virt/kvm/kvm_main.c"}, "/w/source")
	require.Equal(t, "virt/kvm/kvm_main.c", kvm.Source)
	require.Contains(t, kvm.compileArgs("/t", "o", "d"), "/t/arch/x86/kvm/../../../virt/kvm/kvm_main.c")

	c, ok := decodeCommand(cmds[1].encode())
	require.True(t, ok)
	c.listed = true
	require.Equal(t, cmds[1], c)
	_, ok = decodeCommand([]byte("{"))
	require.False(t, ok)
}

func TestWanting(t *testing.T) {
	require.Equal(t, map[string]string{"crypto/x/p.c": "make[3]: *** No rule to make target 'crypto/x/p.asn1.h', needed by 'crypto/x/p.o'."},
		wanting("make[3]: *** No rule to make target '/w/source/crypto/x/p.asn1.h', needed by '/w/source/crypto/x/p.o'.\nmake[2]: *** No rule to make target '/w/source/fs/no.o'.\n", "/w/source"))
}

func TestSideFolders(t *testing.T) {
	require.Equal(t, []string{"lib", "arch/x86/lib", "arch/x86/pci"}, sideFolders(`
core-y		:=
libs-y		:= lib/
libs-y  += arch/x86/lib/
drivers-$(CONFIG_MATH_EMULATION) += arch/x86/math-emu/
drivers-$(CONFIG_PCI)            += arch/x86/pci/
drivers-y-not += x/
`, "CONFIG_PCI=y\n# CONFIG_MATH_EMULATION is not set\n"))
}

func TestNamesOutside(t *testing.T) {
	for text, want := range map[string]bool{
		"usbcore-y += ../misc/x.o\n":                     true,
		"KVM ?= ../../../virt/kvm\n":                     true,
		"PATH=$(srctree)/$(src)/..\nF = $(P)/../x\n":     true,
		"ccflags-y := -I $(srctree)/$(src)/../include\n": false,
		"# a = ../x\n": false,
		"x: ../y\n":    false,
	} {
		require.Equal(t, want, namesOutside(text), text)
	}
	require.Equal(t, []string{"virt/kvm/Makefile.kvm"}, includedMakefiles("x = 1\ninclude $(srctree)/virt/kvm/Makefile.kvm\ninclude other\n"))
}

func TestParseDeps(t *testing.T) {
	require.Equal(t, []string{"/s/a.c", "/s/a.h", "/s/b.h"}, parseDeps("/o/a.o: /s/a.c /s/a.h \\\n  /s/b.h\n\nx: y\n"))
	require.Empty(t, parseDeps(""))
}

func FuzzParseMake(f *testing.F) {
	f.Add(makeOutput(f))
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range parseMake(text, "/w/source") {
			require.NotEmpty(t, c.Source)
			got, ok := decodeCommand(c.encode())
			require.True(t, ok)
			require.Len(t, got.Args, len(c.Args))
		}
	})
}
