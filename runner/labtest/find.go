package labtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology/source"
)

// find reads the lab files of a path.
func find(path string) ([]wire.File, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return folder(path)
	case err == nil:
		f, err := read(path, scenarios.NameOf(path))
		return []wire.File{f}, err
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if found := labs.Find(strings.Trim(path, "/")); len(found) > 0 {
		return found, nil
	}
	matches, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("labs %q: %w", path, err)
	}
	var files []wire.File
	for _, m := range matches {
		more, err := find(m)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	if len(files) == 0 {
		wd, _ := os.Getwd() // for the message alone
		return nil, fmt.Errorf("labs %q: no such file, folder or pattern below %s, and no lab that comes with lvslab", path, wd)
	}
	return files, nil
}

// folder reads all lab files below a folder, which are called by their paths in
// it.
func folder(root string) ([]wire.File, error) {
	var files []wire.File
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		ext := filepath.Ext(path)
		if err != nil || d.IsDir() || ext != ".yaml" && ext != ".yml" {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := read(path, strings.ToLower(strings.TrimSuffix(filepath.ToSlash(rel), ext)))
		files = append(files, f)
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("folder %s holds no lab file (*.yaml)", root)
	}
	return files, err
}

func read(path, name string) (wire.File, error) {
	data, err := source.Read(path)
	if err != nil {
		return wire.File{}, fmt.Errorf("lab %s: %w", path, err)
	}
	return wire.File{Path: path, Name: name, Data: data}, nil
}
