package serve

import (
	"context"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// HTTPFileWait is how long an HTTP server waits for a file whose storage may be
// another node. It then answers 504, Gateway Timeout.
const HTTPFileWait = 4 * time.Second

// answerFiles answers with the files of a folder in the node's own view, read
// anew for each request, "index.html" for a folder. A file that is not there is
// 404, one that the storage fails to give (EIO, ESTALE) 503, and one that it does
// not answer for within HTTPFileWait 504.
func answerFiles(files Files, root string, w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are served", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), HTTPFileWait)
	defer cancel()
	name := path.Join(root, path.Clean("/"+r.URL.Path))
	if strings.HasSuffix(r.URL.Path, "/") {
		name = path.Join(name, "index.html")
	}
	data, err := files.ReadFileContext(ctx, name)
	if err != nil {
		status := statusOf(err)
		http.Error(w, http.StatusText(status)+": "+err.Error(), status)
		return
	}
	kind := mime.TypeByExtension(path.Ext(name))
	if kind == "" {
		kind = "text/plain"
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(data) // the client's loss
}

// answerIndex answers a question for the first page with the node's index file;
// false where that is not what is asked for, or not there.
func (h host) answerIndex(w http.ResponseWriter, r *http.Request) bool {
	first := r.URL.Path == "/" || r.URL.Path == "/"+path.Base(h.d.Index)
	if !first || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), HTTPFileWait)
	defer cancel()
	data, err := h.files.ReadFileContext(ctx, h.d.Index)
	if err != nil {
		return false
	}
	w.Header().Set("Content-Type", "text/html")
	_, _ = w.Write(data) // the client's loss
	return true
}

// statusOf is the HTTP status for what opening or reading a file came to.
func statusOf(err error) int {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EINVAL):
		return http.StatusNotFound
	case errors.Is(err, fs.ErrPermission):
		return http.StatusForbidden
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	}
	return http.StatusServiceUnavailable
}
