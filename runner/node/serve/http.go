package serve

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Bounds of one HTTP connection. They are far above what a lab's network does
// and only keep a client that hangs from holding a connection for ever.
const (
	httpReadTimeout  = 30 * time.Second
	httpWriteTimeout = 30 * time.Second
	httpMaxHeader    = 16 << 10 // bytes
)

type httpDaemon struct {
	server http.Server
	loops  sync.WaitGroup
	once   sync.Once
	err    error
}

// serveHTTP answers GET and HEAD on any path with "NODE PEER\n", where PEER is
// the address that the connection came from as the node sees it: with NAT on the
// way, not the client's. Each connection carries one request and is closed by
// the server (Connection: close), so that each request is balanced anew.
func serveHTTP(node string, listeners []net.Listener) Daemon {
	d := &httpDaemon{server: http.Server{
		Handler:           answer(node),
		ReadHeaderTimeout: httpReadTimeout,
		ReadTimeout:       httpReadTimeout,
		WriteTimeout:      httpWriteTimeout,
		MaxHeaderBytes:    httpMaxHeader,
		// A client that hangs up is part of many labs and no news.
		ErrorLog: log.New(io.Discard, "", 0),
	}}
	d.server.SetKeepAlivesEnabled(false)
	for _, l := range listeners {
		// What ends Serve is Close, or a listener that is gone: clients see it.
		d.loops.Go(func() { _ = d.server.Serve(l) })
	}
	return d
}

func answer(node string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD are served", http.StatusMethodNotAllowed)
			return
		}
		peer := "-"
		if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			peer = ap.Addr().Unmap().String()
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, node+" "+peer+"\n") // the client's loss
	})
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
