package serve

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Bounds of one HTTP connection, in bytes. There are none in time: a connection
// is idle for as long as its lab wants it and ends with the lab at the latest,
// and each deadline is some system calls in every request.
const (
	httpMaxHeader = 16 << 10
	httpMaxPost   = 1 << 20
	httpMaxEcho   = 1 << 10
)

type httpDaemon struct {
	server http.Server
	loops  sync.WaitGroup
	once   sync.Once
	err    error
}

// ServedBy and ServedTo are the headers by which every answer names its node and
// the peer as that node sees it, since a served file does not.
const (
	ServedBy = "X-Served-By"
	ServedTo = "X-Served-To"
)

// serveHTTP answers GET and HEAD on any path with "NODE PEER\n", where PEER is
// the address that the connection came from as the node sees it: with NAT on the
// way, not the client's. /bytes/N has N bytes that begin so, and a POST is
// answered, when all it brought is there, with the beginning of that behind it.
//
// Each connection carries one request and is closed by the server (Connection:
// close), so that each request is balanced anew, unless the client asks in so
// many words to keep it (Connection: keep-alive).
func serveHTTP(h host) (Daemon, error) {
	d := &httpDaemon{server: http.Server{
		Handler:        http.HandlerFunc(h.answer),
		MaxHeaderBytes: httpMaxHeader,
		// A client that hangs up is part of many labs and no news.
		ErrorLog: log.New(io.Discard, "", 0),
	}}
	for _, l := range h.streams {
		// What ends Serve is Close, or a listener that is gone: clients see it.
		d.loops.Go(func() { _ = d.server.Serve(l) })
	}
	return d, nil
}

func (h host) answer(w http.ResponseWriter, r *http.Request) {
	if !slices.ContainsFunc(r.Header["Connection"], func(v string) bool { return strings.EqualFold(v, "keep-alive") }) {
		w.Header().Set("Connection", "close")
	}
	h.log.add(r.RemoteAddr, r.Method, r.RequestURI)
	peer := "-"
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		peer = ap.Addr().Unmap().String()
	}
	line := h.name + " " + peer + "\n"
	w.Header().Set(ServedBy, h.name)
	w.Header().Set(ServedTo, peer)
	if h.d.Root != "" {
		answerFiles(h.files, h.d.Root, w, r)
		return
	}
	if h.d.Index != "" && h.answerIndex(w, r) {
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	// A client that hangs up loses the rest; nobody else does.
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		n := len(line)
		if bulk, ok := strings.CutPrefix(r.URL.Path, "/bytes/"); ok {
			var err error
			if n, err = strconv.Atoi(bulk); err != nil || n < 0 || n > maxBulk {
				http.Error(w, fmt.Sprintf("wanted /bytes/N, N from 0 to %d", maxBulk), http.StatusBadRequest)
				return
			}
		}
		w.Header().Set("Content-Length", strconv.Itoa(n))
		if r.Method == http.MethodGet {
			_, _ = io.Copy(w, filled(line, n))
		}
	case http.MethodPost:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, httpMaxPost))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		_, _ = io.WriteString(w, line+string(body[:min(len(body), httpMaxEcho)]))
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "only GET, HEAD and POST are served", http.StatusMethodNotAllowed)
	}
}

// Close implements Daemon.
func (d *httpDaemon) Close() error {
	d.once.Do(func() {
		d.err = d.server.Close()
		if errors.Is(d.err, net.ErrClosed) {
			d.err = nil
		}
		d.loops.Wait()
	})
	return d.err
}
