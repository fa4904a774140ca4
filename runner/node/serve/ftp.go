package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"goftp.io/server/v2"
)

// serveFTP is a server of files that can only be read, for whoever logs in by
// any name. Every file says "NODE PEER\n", /bytes/N has N bytes that begin so,
// and a listing has one file, called, and owned, by the node and of the peer's
// group:
//
//	-r--r--r-- 1 web1 10.0.0.9 14 Jan  1  1970 web1
//
// The commands of the control connection are goftp's; those that have to do with
// data connections are of this package, since goftp opens its sockets in
// whatever network namespace its goroutine happens to be in, and not from the
// port that RFC 959 gives to data (ftp-data, the control port less one), by
// which alone a director that translates addresses knows it (ip_vs_ftp).
func serveFTP(h host) (Daemon, error) {
	commands, err := ftpCommands()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &ftpDaemon{cancel: cancel, streams: serveEach(h, func(c net.Conn) {
		f := &ftpSession{ctx: ctx, host: h, control: c}
		defer f.drop()
		mine := maps.Clone(commands)
		for name, run := range map[string]func(*ftpSession, *server.Session, string){
			"PASV": (*ftpSession).pasv, "EPSV": (*ftpSession).epsv,
			"PORT": (*ftpSession).port, "EPRT": (*ftpSession).eprt,
			"LIST": (*ftpSession).list, "NLST": (*ftpSession).nlst, "RETR": (*ftpSession).retr,
		} {
			mine[name] = ftpCommand{name, func(s *server.Session, param string) {
				h.asked(c.RemoteAddr(), name, param)
				run(f, s, param)
			}}
		}
		s, err := server.NewServer(&server.Options{
			Commands: mine, Name: h.name, WelcomeMessage: h.name + " serves files; your address is " + peerOf(c.RemoteAddr()),
			Driver: ftpFiles{h.line(c.RemoteAddr())}, Auth: anybody{}, Perm: server.NewSimplePerm(h.name, h.name),
			Logger: new(server.DiscardLogger),
		})
		if err != nil {
			return // what it wants is all given above
		}
		// Its Serve starts a goroutine and takes the next connection, of which
		// there is none before this one has ended.
		_ = s.Serve(newOneConn(c))
	})}, nil
}

// ftpDaemon ends what waits for data connections, too.
type ftpDaemon struct {
	*streams
	cancel context.CancelFunc
}

// Close implements Daemon.
func (d *ftpDaemon) Close() error {
	d.cancel()
	return d.streams.Close()
}

// ftpCommands are those of goftp's that change nothing and open no sockets.
func ftpCommands() (map[string]server.Command, error) {
	s, err := server.NewServer(&server.Options{Perm: server.NewSimplePerm("", "")})
	if err != nil {
		return nil, err
	}
	kept := make(map[string]server.Command)
	for _, name := range []string{"USER", "PASS", "SYST", "TYPE", "MODE", "STRU", "FEAT", "OPTS", "NOOP", "PWD", "XPWD", "CWD", "CDUP", "SIZE", "QUIT"} {
		if c, ok := s.Commands[name]; ok {
			kept[name] = c
		}
	}
	return kept, nil
}

// anybody lets everyone in.
type anybody struct{}

// CheckPasswd implements server.Auth.
func (anybody) CheckPasswd(*server.Context, string, string) (bool, error) { return true, nil }

// ftpCommand is a command of this package's.
type ftpCommand struct {
	name string
	run  func(s *server.Session, param string)
}

// IsExtend implements server.Command: whether FEAT names it (RFC 2428).
func (c ftpCommand) IsExtend() bool { return c.name == "EPSV" || c.name == "EPRT" }

// RequireParam implements server.Command.
func (c ftpCommand) RequireParam() bool {
	return c.name == "PORT" || c.name == "EPRT" || c.name == "RETR"
}

// RequireAuth implements server.Command.
func (c ftpCommand) RequireAuth() bool { return true }

// Execute implements server.Command.
func (c ftpCommand) Execute(s *server.Session, param string) { c.run(s, param) }

// errReadOnly is what all that would change something is answered with.
var errReadOnly = errors.New("the files of a lab's FTP server can only be read")

// ftpFiles are the files as goftp's own commands see them, CWD and SIZE.
type ftpFiles struct{ line string }

// Stat implements server.Driver.
func (f ftpFiles) Stat(_ *server.Context, name string) (os.FileInfo, error) {
	if size := f.size(name); size >= 0 {
		return ftpFile{path.Base(name), size}, nil
	}
	return ftpFile{path.Base(name), -1}, nil
}

// size is that of a file, -1 for a folder, which is what ends in a slash.
func (f ftpFiles) size(name string) int {
	if name == "" || strings.HasSuffix(name, "/") {
		return -1
	}
	if n, ok := ftpBulk(name); ok {
		return n
	}
	return len(f.line)
}

func ftpBulk(name string) (int, bool) {
	s, ok := strings.CutPrefix(name, "/bytes/")
	n, err := strconv.Atoi(s)
	return n, ok && err == nil && n >= 0 && n <= maxBulk
}

// GetFile implements server.Driver.
func (f ftpFiles) GetFile(_ *server.Context, name string, from int64) (int64, io.ReadCloser, error) {
	n := f.size(name)
	if n < 0 || from < 0 || from > int64(n) {
		return 0, nil, fmt.Errorf("%s: no such file", name)
	}
	r := filled(f.line, n)
	if _, err := io.CopyN(io.Discard, r, from); err != nil {
		return 0, nil, err
	}
	return int64(n) - from, io.NopCloser(r), nil
}

// ListDir implements server.Driver.
func (f ftpFiles) ListDir(_ *server.Context, _ string, each func(os.FileInfo) error) error {
	name, _, _ := strings.Cut(f.line, " ")
	return each(ftpFile{name, len(f.line)})
}

// DeleteDir implements server.Driver.
func (ftpFiles) DeleteDir(*server.Context, string) error { return errReadOnly }

// DeleteFile implements server.Driver.
func (ftpFiles) DeleteFile(*server.Context, string) error { return errReadOnly }

// Rename implements server.Driver.
func (ftpFiles) Rename(*server.Context, string, string) error { return errReadOnly }

// MakeDir implements server.Driver.
func (ftpFiles) MakeDir(*server.Context, string) error { return errReadOnly }

// PutFile implements server.Driver.
func (ftpFiles) PutFile(*server.Context, string, io.Reader, int64) (int64, error) {
	return 0, errReadOnly
}

// ftpFile is a file, or a folder when its size is below 0.
type ftpFile struct {
	name string
	size int
}

// Name implements os.FileInfo.
func (f ftpFile) Name() string { return f.name }

// Size implements os.FileInfo.
func (f ftpFile) Size() int64 { return int64(max(f.size, 0)) }

// Mode implements os.FileInfo.
func (f ftpFile) Mode() os.FileMode {
	if f.IsDir() {
		return os.ModeDir | 0o555
	}
	return 0o444
}

// ModTime implements os.FileInfo.
func (f ftpFile) ModTime() time.Time { return time.Unix(0, 0).UTC() }

// IsDir implements os.FileInfo.
func (f ftpFile) IsDir() bool { return f.size < 0 }

// Sys implements os.FileInfo.
func (f ftpFile) Sys() any { return nil }

// localAddr is the control connection's own end: the address that the client
// asked, a virtual IP as it may be.
func (f *ftpSession) localAddr() netip.AddrPort {
	ap, err := netip.ParseAddrPort(f.control.LocalAddr().String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
