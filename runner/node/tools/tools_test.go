package tools

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// typed runs a program and returns what it printed.
func typed(args ...string) (out, errs string, exit int) {
	var o, e bytes.Buffer
	exit = Main(args, strings.NewReader(""), &o, &e)
	return o.String(), e.String(), exit
}

func TestMainNames(t *testing.T) {
	if _, errs, exit := typed("/run/lvslab/bin/nosuch"); exit != 127 || !strings.Contains(errs, "nosuch") {
		t.Errorf("a program that is none: exit %d, %q", exit, errs)
	}
	for _, name := range []string{"ipvsadm", "arptables-save", "arp", "curl", "modprobe", "systemctl", "dnf"} {
		if !slices.Contains(Names(), name) {
			t.Errorf("%s is not among %v", name, Names())
		}
	}
}

func TestNames(t *testing.T) {
	n := parseNames("127.0.0.1 localhost # x\n10.0.0.1 web1 one\n::1 localhost\n# 10.0.0.2 no\nbad line\n",
		"http 80/tcp www # web\ndomain 53/udp\nnope 99999/tcp\n")
	if a, ok := n.host("one"); !ok || a.String() != "10.0.0.1" || n.addrName(a) != "web1" {
		t.Errorf("one is %v, %t", a, ok)
	}
	if _, ok := n.host("no"); ok {
		t.Error("a comment has a name")
	}
	if p, ok := n.port("www", "tcp"); !ok || p != 80 || n.portName(80, "tcp") != "http" || n.portName(80, "udp") != "80" {
		t.Errorf("www is %d, %t", p, ok)
	}
	if _, ok := n.port("domain", "tcp"); ok {
		t.Error("a port of UDP is one of TCP")
	}
}

func TestPopt(t *testing.T) {
	options := []poptOption{{"all", 'a', poptNone}, {"to", 't', poptOne}, {"maybe", 'p', poptMaybe}}
	for line, want := range map[string]string{
		"-at x -p":      "a t=x p",
		"-tx --to=y z":  "t=x t=y z",
		"-t=x -p 5 -pa": "t=x p=5 p=a",
		"-p -a":         "p a",
		"-a -- -t":      "a -t",
		"-q":            "! -q: unknown option",
		"--to":          "! --to: missing argument",
		"--no":          "! --no: unknown option",
	} {
		given, words, err := parsePopt(options, strings.Fields(line))
		var got []string
		for _, g := range given {
			word := string(g.short)
			if g.has {
				word += "=" + g.value
			}
			got = append(got, word)
		}
		text := strings.Join(append(got, words...), " ")
		if err != nil {
			text = "! " + err.Error()
		}
		if text != want {
			t.Errorf("%s: %s, wanted %s", line, text, want)
		}
	}
}

func TestLargeNumber(t *testing.T) {
	for n, want := range map[uint64]string{5: "        5", 99999999: " 99999999", 100000000: "  100000K", 5e9: "    5000M", 5e11: "     500G", 5e14: "     500T"} {
		if got := largeNumber(n, false); got != want {
			t.Errorf("%d: %q, wanted %q", n, got, want)
		}
	}
	if got := largeNumber(1234567890123, true); got != " 1234567890123" {
		t.Errorf("exact: %q", got)
	}
}

func TestServe(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "control"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Serve(l, func(r Request) Answer { return Answer{Out: r.Kind + " " + r.Name, Exit: 3} })
	}()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var a Answer
	if err := json.NewEncoder(conn).Encode(Request{Kind: Modprobe, Name: "ipip"}); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(conn).Decode(&a); err != nil || a != (Answer{Out: "modprobe ipip", Exit: 3}) {
		t.Errorf("answer %+v, %v", a, err)
	}
	l.Close()
	<-ended
}

// Nobody listens here, so what asks the keeper says so and fails.
func TestSystemWords(t *testing.T) {
	for line, want := range map[string]string{
		"systemctl":              "list of units",
		"systemctl frob httpd":   "Unknown command verb frob.",
		"systemctl start":        "Too few arguments.",
		"systemctl --x start a":  "unrecognized option '--x'",
		"systemctl start httpd":  "asking lvslab",
		"service httpd":          "Usage: service",
		"service httpd start":    "Redirecting to /bin/systemctl start httpd.service",
		"modprobe":               "missing parameters",
		"modprobe -x a":          "invalid option -- 'x'",
		"modprobe a b=c":         "module parameters (b=c)",
		"modprobe ipip":          "asking lvslab",
		"yum remove ipvsadm":     "only yum install",
		"yum install":            "Need to pass a list",
		"dnf install no-such":    "No match for argument: no-such",
		"curl":                   "no URL specified",
		"curl --frob x":          "curl: option --frob: is unknown",
		"curl -m x 10.0.0.1":     "option -m: expected a proper numerical parameter",
		"curl ftp://10.0.0.1/":   "curl: (1) Protocol \"ftp\" not supported",
		"curl http://no.such/":   "curl: (6) Could not resolve host: no.such",
		"curl http://127.0.0.1:": "curl: (7)",
	} {
		if _, errs, exit := typed(strings.Fields(line)...); exit == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q, wanted %q", line, exit, errs, want)
		}
	}
	if out, _, exit := typed("yum", "install", "-y", "httpd"); exit != 0 || !strings.HasSuffix(out, "Nothing to do.\nComplete!\n") {
		t.Errorf("yum install httpd: exit %d, %q", exit, out)
	}
}

func TestCurl(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			http.Error(w, "gone", http.StatusGone)
		case "/there":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		case "/empty":
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				conn.Close()
			}
		default:
			body := new(bytes.Buffer)
			_, _ = body.ReadFrom(r.Body)
			_, _ = w.Write([]byte(r.Method + " " + r.Host + " " + r.Header.Get("X-A") + " " + body.String() + "\n"))
		}
	}))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	file := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		line, out, errs string
		exit            int
	}{
		{"-s " + host, "GET " + host + "  \n", "", 0},
		{"-s -H X-A:b -d x=1 -d y=2 " + s.URL, "POST " + host + " b x=1&y=2\n", "", 0},
		{"-sX PUT -H Host:www " + s.URL, "PUT www  \n", "", 0},
		{"-sL -w %{http_code}\\n%{num_redirects} " + s.URL + "/there", "GET " + host + "  \n200\n1", "", 0},
		{"-s -w %{remote_ip} -o " + file + " " + s.URL, "127.0.0.1", "", 0},
		{"-f " + s.URL + "/gone", "", "curl: (22) The requested URL returned error: 410\n", 22},
		{"-sS " + s.URL + "/empty", "", "curl: (52) Empty reply from server\n", 52},
		{"-sSm 0.2 " + s.URL + "/slow", "", "curl: (28) Operation timed out after", 28},
		{"-s -I " + s.URL + "/gone", "HTTP/1.1 410 Gone\r\n", "", 0},
		{"-s http://127.0.0.1:1/", "", "", 7},
	} {
		out, errs, exit := typed(append([]string{"curl"}, strings.Fields(c.line)...)...)
		if exit != c.exit || !strings.HasPrefix(out, c.out) || !strings.HasPrefix(errs, c.errs) {
			t.Errorf("curl %s: exit %d, %q, %q", c.line, exit, out, errs)
		}
	}
}
