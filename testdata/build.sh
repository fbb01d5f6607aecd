#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# build.sh - builds the objects of testdata/cases.
#
#   ./build.sh                 every case
#   ./build.sh NAME...         only these
#   ./build.sh -l              lists cases and the tools of each
#   OUT=DIR ./build.sh ...     writes DIR/NAME/* instead of cases/NAME/*
#
# Tools, each replaced through the environment: GCC (gcc-12), GXX (g++-12), CLANG (clang-19), CLANGXX (clang++-19), LD (ld),
# LLD (ld.lld-19), OBJCOPY (objcopy), RUSTC (rustc). A missing one is reported once and its objects are left as they are.
#
# A case is a folder with
#   src.EXT                       one source, compiled as it is and with -DPATCHED (rustc: --cfg patched), so no line moves; or
#   orig.EXT and patched.EXT      two sources, both compiled under the name CASE.EXT, so __FILE__ and STT_FILE agree;
#   src1.EXT src2.EXT ...         several translation units, joined by the `link` directive (default: ld -r)
# where EXT is c, cc, rs or S (S goes through the C preprocessor). It yields TOOL.ORIG.o and TOOL.PATCHED.o.
#
# Directives are lines `//# KEY: VALUE` at the top of the first source (src, src1 or orig):
#   tools: TOOL...        default: c "gcc clang", cc "g++ clang++", S "as", rs "rustc"; "as" is gcc on assembler, "clang" on .S is clang's
#   flags: FLAG...        added for every tool; a later flag wins over the kernel-like defaults below
#   gcc: clang: as: g++: clang++: rustc:    added for this tool only (last)
#   orig: patched:        added for this side only
#   swap: yes             PATCHED links the several units in the opposite order
#   link: r | thinlto | gcclto | none       how several units become one object
#   symbols: objcopy FLAG...                objcopy run over both objects at the end (on the patched side only: `objcopy-patched:`)
#
# Objects are the same bytes on every run and in every folder: sources are compiled in a scratch folder under relative names,
# nothing records a path, a time or a random seed.
set -euo pipefail
export LC_ALL=C SOURCE_DATE_EPOCH=0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${OUT:-$here/cases}
GCC=${GCC:-gcc-12} GXX=${GXX:-g++-12} CLANG=${CLANG:-clang-19} CLANGXX=${CLANGXX:-clang++-19}
LD=${LD:-ld} LLD=${LLD:-ld.lld-19} OBJCOPY=${OBJCOPY:-objcopy} RUSTC=${RUSTC:-rustc}
PATH=$PATH:$HOME/.cargo/bin

# Kernel-like code generation.
code=(-O2 -g0 -ffunction-sections -fdata-sections -mcmodel=kernel -fno-pic -fno-pie -m64 -march=x86-64
	-mno-red-zone -mno-mmx -mno-sse -mno-sse2 -mno-80387 -fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables
	-fcf-protection=none -fno-strict-aliasing -fno-strict-overflow -fno-delete-null-pointer-checks -fno-common -fshort-wchar
	-fno-jump-tables -falign-functions=16 -w)
cflags=("${code[@]}" -std=gnu11 -pg -mfentry)
cxxflags=("${code[@]}" -std=gnu++17 -fno-exceptions -fno-rtti -pg -mfentry)
rsflags=(--edition=2021 --crate-type=lib --emit=obj -C opt-level=2 -C panic=abort -C codegen-units=1 -C debuginfo=0
	-C relocation-model=static -C code-model=kernel -C no-redzone=yes -C target-cpu=x86-64 -C force-unwind-tables=no)

declare -A said=()
die() { echo "build.sh: $*" >&2; exit 1; }
have() { # PROGRAM
	command -v "$1" >/dev/null && return
	[[ -n ${said[$1]:-} ]] || echo "build.sh: $1 not found, its objects are skipped" >&2
	said[$1]=1
	return 1
}
# directive KEY: its value in the source in $first
directive() { sed -n "s|^//# *$1: *||p" "$first" | tr '\n' ' '; }

program() { # TOOL
	case $1 in
	gcc | as) echo "$GCC" ;; g++) echo "$GXX" ;; clang) echo "$CLANG" ;; clang++) echo "$CLANGXX" ;; rustc) echo "$RUSTC" ;;
	*) die "unknown tool $1" ;;
	esac
}

# compile TOOL SIDE SOURCE OBJECT, in the scratch folder
compile() {
	local tool=$1 side=$2 src=$3 obj=$4 cmd
	cmd=$(program "$tool")
	local -a def=() more
	[[ $side = PATCHED ]] && def=(-DPATCHED)
	read -ra more <<<"$(directive flags) $(directive "${side,,}") $(directive "$tool")"
	case $tool in
	as) "$cmd" -c -I include "${def[@]}" -Wa,--noexecstack "${more[@]}" -o "$obj" "$src" ;;
	gcc) "$cmd" -c -I include "${cflags[@]}" -frandom-seed=kdelta "${def[@]}" "${more[@]}" -ffile-prefix-map="$PWD"=. -gno-record-gcc-switches -o "$obj" "$src" ;;
	g++) "$cmd" -c -I include "${cxxflags[@]}" -frandom-seed=kdelta "${def[@]}" "${more[@]}" -o "$obj" "$src" ;;
	clang)
		if [[ $src = *.S ]]; then
			"$cmd" -c -I include "${def[@]}" "${more[@]}" -o "$obj" "$src"
		else
			"$cmd" -c -I include "${cflags[@]}" "${def[@]}" "${more[@]}" -ffile-prefix-map="$PWD"=. -o "$obj" "$src"
		fi ;;
	clang++) "$cmd" -c -I include "${cxxflags[@]}" "${def[@]}" "${more[@]}" -o "$obj" "$src" ;;
	rustc)
		[[ $side = PATCHED ]] && def=(--cfg patched) || def=()
		"$cmd" "${rsflags[@]}" --check-cfg 'cfg(patched)' -A warnings --remap-path-prefix "$PWD"=. "${def[@]}" "${more[@]}" -o "$obj" "$src" ;;
	esac
}

# build CASE TOOL SIDE
build() {
	local name=$1 tool=$2 side=$3 dir=$here/cases/$1 work=$tmp/$1.$2.$3 src ext n objs=() how oc
	mkdir -p "$work"
	local -a srcs=()
	if [[ ${first##*/} = orig.* ]]; then
		srcs=("$dir/${side,,}.${first##*.}")
	else
		for src in "$dir"/src.* "$dir"/src[1-9].*; do [[ -e $src ]] && srcs+=("$src"); done
	fi
	ext=${first##*.}
	how=$(directive link); how=${how:-r }; how=${how% }
	n=0
	for src in "${srcs[@]}"; do
		# every unit is called CASE.EXT, in a folder of its own, unless LTO wants the units under different names
		n=$((n + 1))
		mkdir -p "$work/$n"; ln -s "$here/include" "$work/$n/include"
		local unit=$name.$ext
		[[ $how = *lto ]] && unit=$name$n.$ext
		cp "$src" "$work/$n/$unit"
		(cd "$work/$n" && compile "$tool" "$side" "$unit" "$name$n.o")
		mv "$work/$n/$name$n.o" "$work/$name$n.o"
		objs+=("$name$n.o")
	done
	if [[ $side = PATCHED && -n $(directive swap) ]]; then
		local -a rev=(); local o
		for o in "${objs[@]}"; do rev=("$o" "${rev[@]}"); done
		objs=("${rev[@]}")
	fi
	(
		cd "$work"
		case $how in
		thinlto) "$LLD" -r --thinlto-jobs=1 -o all.o "${objs[@]}" ;;
		gcclto) "$GCC" -r -nostdlib -flinker-output=nolto-rel -flto=1 -flto-partition=none -frandom-seed=kdelta "${cflags[@]}" -o all.o "${objs[@]}" ;;
		r) if [[ ${#objs[@]} = 1 ]]; then mv "${objs[0]}" all.o; else "$LD" -r -o all.o "${objs[@]}"; fi ;;
		*) die "$name: unknown link $how" ;;
		esac
		read -ra oc <<<"$(directive symbols)"
		if [[ $side = PATCHED ]]; then read -ra oc <<<"$(directive symbols) $(directive objcopy-patched)"; fi
		if [[ ${#oc[@]} -gt 0 ]]; then "$OBJCOPY" "${oc[@]}" all.o; fi
	)
	mkdir -p "$out/$name"
	mv "$work/all.o" "$out/$name/$tool.$side.o"
	chmod 644 "$out/$name/$tool.$side.o"
}

list=0
[[ ${1:-} = -l ]] && { list=1; shift; }
[[ ${1:-} = -* ]] && { sed -n '3,/^set -e/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//'; exit 1; }
if [[ $# = 0 ]]; then set -- "$here"/cases/*/; fi
tmp=$(mktemp -d); at=
trap 's=$?; rm -rf "$tmp"; [[ $s = 0 || -z $at ]] || echo "build.sh: $at failed" >&2' EXIT

for name; do
	name=${name%/}; name=${name##*/}
	first=
	for f in "$here/cases/$name"/{src,src1,orig}.*; do [[ -e $f ]] && { first=$f; break; }; done
	[[ -n $first ]] || die "$name: no source"
	tools=$(directive tools)
	case ${first##*.} in
	c) tools=${tools:-gcc clang} ;; cc) tools=${tools:-g++ clang++} ;; S) tools=${tools:-as} ;; rs) tools=${tools:-rustc} ;;
	*) die "$name: unknown source $first" ;;
	esac
	if [[ $list = 1 ]]; then echo "$name: $tools"; continue; fi
	for tool in $tools; do
		have "$(program "$tool")" || continue
		case $(directive link) in thinlto*) have "$LLD" || continue ;; esac
		at="$name: $tool"
		build "$name" "$tool" ORIG
		build "$name" "$tool" PATCHED
	done
done
