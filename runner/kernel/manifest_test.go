package kernel

import (
	"path/filepath"
	"testing"
)

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"uml","release":"6.1","image":{"path":"usr/bin/linux.uml"},"modules":{"path":"m/modules.dep"}}`))
	f.Add([]byte(`{"version":1,"name":"uml","release":"6.1","image":{"path":"../x"}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err == nil && (!filepath.IsLocal(m.Image.Path) || !filepath.IsLocal(m.Modules.Path)) {
			t.Fatalf("a path leads out: %+v", m)
		}
	})
}
