package kernel

import "testing"

// FuzzAliases: whatever modules.alias holds, looking something up in it ends, and
// a plain alias is found.
func FuzzAliases(f *testing.F) {
	f.Add([]byte("# Aliases\nalias ipt_MASQUERADE xt_MASQUERADE\nalias fs-nfs* nfs\nbroken\n"), "fs-nfs4")
	f.Add([]byte("alias [a-\\ x\nalias **************a y\n"), "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		for _, module := range ParseAliases(text).Find(name) {
			if module == "" {
				t.Errorf("%q is the alias of nothing", name)
			}
		}
	})
}
