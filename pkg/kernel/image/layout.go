package image

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
	"github.com/kdelta/kdelta/pkg/diag"
	"github.com/kdelta/kdelta/pkg/klp"
)

// Struct is the layout of a structure.
type Struct struct {
	Size    uint64 // bytes
	Members []Member
}

// Member is a member of a structure. Those of structures and unions without a name in it count as its own.
type Member struct {
	Name   string
	Offset uint64 // bytes from the start; of a bit-field: where the byte is in which it starts
	Size   uint64 // bytes; of a bit-field: of its type
	Bits   uint32 // width of a bit-field, 0 for others
}

// Member gives the member of a name.
func (s *Struct) Member(name string) (Member, bool) {
	for _, m := range s.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// entries is which structure the entries of a table are.
var entries = [...]struct{ section, name string }{
	{".altinstructions", "alt_instr"},
	{".parainstructions", "paravirt_patch_site"},
	{"__bug_table", "bug_entry"},
	{"__ex_table", "exception_table_entry"},
	{"__jump_table", "jump_entry"},
	{".static_call_sites", "static_call_site"},
	{".orc_unwind", "orc_entry"},
	{"__dyndbg", "_ddebug"},
	{".printk_index", "pi_entry"},
	{"__tracepoints", "tracepoint"},
	{"__param", "kernel_param"},
	{"__bpf_raw_tp_map", "bpf_raw_event_map"},
	{"_ftrace_eval_map", "trace_eval_map"},
}

// described are the structures that are always read.
var described = [...]string{"module", "klp_patch", "klp_object", "klp_func", "klp_callbacks", "klp_state", "kobject", "static_key", "static_call_key"}

// readStructs reads the structures that patches need. What BTF lacks is missing in the result.
func (k *Kernel) readStructs() {
	k.structs = make(map[string]Struct)
	if len(k.btfRaw) == 0 {
		return
	}
	for _, e := range entries {
		k.readStruct(e.name)
	}
	for _, name := range described {
		k.readStruct(name)
	}
}

func (k *Kernel) readStruct(name string) {
	if s, ok := k.loadStruct(name); ok {
		k.structs[name] = s
	}
}

// Struct gives the layout of a structure; false when BTF does not have it or has several that differ.
func (k *Kernel) Struct(name string) (Struct, bool) {
	if s, ok := k.structs[name]; ok {
		return s, true
	}
	return k.loadStruct(name)
}

func (k *Kernel) loadStruct(name string) (Struct, bool) {
	k.onceBTF.Do(func() {
		if len(k.btfRaw) > 0 {
			// BTF that cannot be read is as good as none: every question to it is answered with no.
			k.spec, _ = btf.LoadSpecFromReader(bytes.NewReader(k.btfRaw))
		}
	})
	if k.spec == nil {
		return Struct{}, false
	}
	types, err := k.spec.AnyTypesByName(name)
	if err != nil {
		return Struct{}, false
	}
	var out Struct
	found := false
	for _, t := range types {
		s, ok := t.(*btf.Struct)
		if !ok {
			continue
		}
		one := Struct{Size: uint64(s.Size)}
		if !one.add(s.Members, 0, 0) {
			return Struct{}, false
		}
		if found && !out.equal(&one) {
			return Struct{}, false
		}
		out, found = one, true
	}
	return out, found
}

func (s *Struct) equal(o *Struct) bool {
	if s.Size != o.Size || len(s.Members) != len(o.Members) {
		return false
	}
	for i := range s.Members {
		if s.Members[i] != o.Members[i] {
			return false
		}
	}
	return true
}

const (
	maxNesting = 16
	maxMembers = 4096
)

func (s *Struct) add(members []btf.Member, base uint64, depth int) bool {
	if depth > maxNesting {
		return false
	}
	for i := range members {
		m := &members[i]
		at := base + uint64(m.Offset)/8
		if m.Name == "" {
			var inner []btf.Member
			switch t := btf.UnderlyingType(m.Type).(type) {
			case *btf.Struct:
				inner = t.Members
			case *btf.Union:
				inner = t.Members
			}
			if !s.add(inner, at, depth+1) {
				return false
			}
			continue
		}
		if len(s.Members) == maxMembers {
			return false
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			size = 0 // an array without a length
		}
		s.Members = append(s.Members, Member{Name: m.Name, Offset: at, Size: uint64(size), Bits: uint32(m.BitfieldSize)})
	}
	return true
}

// EntrySizes gives the bytes of one entry of the kernel's tables by the section that
// holds them in objects, as far as BTF knows. (__dyndbg and the like have them per object
// of the kernel's build, .altinstructions per kernel.)
func (k *Kernel) EntrySizes() map[string]int {
	out := make(map[string]int)
	for _, e := range entries {
		if s, ok := k.structs[e.name]; ok && s.Size > 0 {
			out[e.section] = int(s.Size)
		}
	}
	return out
}

// KlpLayout gives the layout of the livepatch structures and of struct module. The
// error (image-lacks) names all that BTF lacks.
func (k *Kernel) KlpLayout() (*klp.Layout, error) {
	var lacks []string
	size := func(name string) uint64 {
		s, ok := k.Struct(name)
		if !ok {
			lacks = append(lacks, "struct "+name)
		}
		return s.Size
	}
	off := func(name, member string) uint64 {
		s, ok := k.Struct(name)
		if !ok {
			return 0
		}
		m, ok := s.Member(member)
		if !ok {
			lacks = append(lacks, fmt.Sprintf("member %s of struct %s", member, name))
		}
		return m.Offset
	}
	l := &klp.Layout{
		Patch: size("klp_patch"), PatchMod: off("klp_patch", "mod"), PatchObjs: off("klp_patch", "objs"), Replace: off("klp_patch", "replace"),
		Object: size("klp_object"), Name: off("klp_object", "name"), Funcs: off("klp_object", "funcs"), Callbacks: off("klp_object", "callbacks"),
		Func: size("klp_func"), OldName: off("klp_func", "old_name"), NewFunc: off("klp_func", "new_func"), OldSympos: off("klp_func", "old_sympos"),
		CallbackSize: size("klp_callbacks"),
		ModuleSize:   size("module"), ModuleName: off("module", "name"), ModuleInit: off("module", "init"), ModuleExit: off("module", "exit"),
	}
	for i := range l.Callback {
		l.Callback[i] = off("klp_callbacks", klp.CallbackKind(i).String())
	}
	at := diag.Place{File: k.Name, Section: ".BTF"}
	if len(lacks) > 0 {
		return nil, problem(diag.ImageLacks, at, "no %s", strings.Join(lacks, ", "))
	}
	if err := l.Check(); err != nil {
		return nil, problem(diag.ImageMalformed, at, "%v", err)
	}
	return l, nil
}
