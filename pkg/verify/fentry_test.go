package verify

import (
	"testing"

	"github.com/kdelta/kdelta/pkg/klp"
	"github.com/kdelta/kdelta/pkg/object"
)

// TestCallsFentry: a call of ftrace may be one that the livepatch core resolves.
func TestCallsFentry(t *testing.T) {
	sym := func(object, name string) klp.Symbol { return klp.Symbol{Object: object, Name: name} }
	plain := rel{off: 5, addend: -4, size: 4, sym: 1}
	for _, tt := range []struct {
		name string
		rels []rel
		klp  []klp.Reloc
		want bool
	}{
		{"ordinary", []rel{plain}, nil, true},
		{"none", nil, nil, false},
		{"another addend", []rel{{off: 5, addend: 0, size: 4, sym: 1}}, nil, false},
		{"another symbol", []rel{{off: 5, addend: -4, size: 4, sym: 2}}, nil, false},
		{"livepatch", nil, []klp.Reloc{{Sec: 1, Off: 5, Addend: -4, Symbol: sym("vmlinux", "__fentry__")}}, true},
		{"with a placeholder", []rel{{off: 5, addend: -4, size: 4, sym: 2}}, []klp.Reloc{{Sec: 1, Off: 5, Addend: -4, Symbol: sym("vmlinux", "__fentry__")}}, true},
		{"of a module", nil, []klp.Reloc{{Sec: 1, Off: 5, Addend: -4, Symbol: sym("ext4", "__fentry__")}}, false},
		{"of another symbol", nil, []klp.Reloc{{Sec: 1, Off: 5, Addend: -4, Symbol: sym("vmlinux", "printk")}}, false},
		{"elsewhere", nil, []klp.Reloc{{Sec: 1, Off: 9, Addend: -4, Symbol: sym("vmlinux", "__fentry__")}}, false},
	} {
		f := &object.File{Sections: make([]object.Section, 2), Symbols: []object.Symbol{{}, {Name: "__fentry__"}, {Name: ".klp.tombstone.__fentry__"}}}
		c := &checker{p: &view{f: f, rels: [][]rel{nil, append([]rel{}, tt.rels...)}}, klp: &klp.Patch{Relocs: tt.klp}}
		if got := c.callsFentry(site{1, 4}); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
