package tools

import (
	"fmt"
	"strings"
)

// poptArg says what follows an option.
type poptArg int

const (
	poptNone poptArg = iota
	poptOne
	poptMaybe // takes the next word unless that begins with a dash
)

// poptOption is one option of a program that reads its options by popt(3).
type poptOption struct {
	long  string
	short byte // 0: none
	arg   poptArg
}

// title is the option as ipvsadm shows it when it is one too many.
func (o poptOption) title() string {
	if o.short != 0 {
		return "-" + string(o.short)
	}
	return "--" + o.long
}

// poptGiven is an option as it was given.
type poptGiven struct {
	poptOption
	value string
	has   bool
}

// poptError is a word that popt cannot read: an option and why.
type poptError struct{ option, why string }

func (e *poptError) Error() string { return e.option + ": " + e.why }

// parsePopt reads words as popt does: options and other words may be mixed,
// short options may be bundled, an argument may be glued on (-srr, -s=rr,
// --scheduler=rr). What was read before a mistake is returned with it.
func parsePopt(options []poptOption, args []string) (given []poptGiven, words []string, err *poptError) {
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if len(word) < 2 || word[0] != '-' {
			words = append(words, word)
			continue
		}
		if word == "--" {
			return given, append(words, args...), nil
		}
		var more []poptGiven
		if strings.HasPrefix(word, "--") {
			more, args, err = poptLong(options, word, args)
		} else {
			more, args, err = poptShort(options, word, args)
		}
		given = append(given, more...)
		if err != nil {
			return given, words, err
		}
	}
	return given, words, nil
}

func poptLong(options []poptOption, word string, args []string) ([]poptGiven, []string, *poptError) {
	name, value, glued := strings.Cut(word[2:], "=")
	for _, o := range options {
		if o.long == name {
			return poptTake(o, word, value, glued, args)
		}
	}
	return nil, args, &poptError{word, "unknown option"}
}

func poptShort(options []poptOption, word string, args []string) (given []poptGiven, rest []string, err *poptError) {
	for letters := word[1:]; letters != ""; {
		var found *poptOption
		for i := range options {
			if options[i].short == letters[0] {
				found = &options[i]
			}
		}
		if found == nil {
			return given, args, &poptError{word, "unknown option"}
		}
		value := letters[1:]
		letters = value
		glued := value != "" && found.arg != poptNone
		if glued {
			value, letters = strings.TrimPrefix(value, "="), ""
		}
		var one []poptGiven
		one, args, err = poptTake(*found, word, value, glued, args)
		given = append(given, one...)
		if err != nil {
			return given, args, err
		}
	}
	return given, args, nil
}

// poptTake gives an option its argument.
func poptTake(o poptOption, word, value string, glued bool, args []string) ([]poptGiven, []string, *poptError) {
	g := poptGiven{poptOption: o}
	switch {
	case o.arg == poptNone:
	case glued:
		g.value, g.has = value, true
	case o.arg == poptOne && len(args) == 0:
		return nil, args, &poptError{word, "missing argument"}
	case o.arg == poptOne, len(args) > 0 && !strings.HasPrefix(args[0], "-"):
		g.value, g.has, args = args[0], true, args[1:]
	}
	return []poptGiven{g}, args, nil
}

// exit ends a program with a message and a status; it travels as an error.
type exit struct {
	status  int
	message string
}

func (e *exit) Error() string { return e.message }

// fail is what ipvsadm does with a mistake in its arguments.
func fail(status int, format string, args ...any) error {
	return &exit{status, fmt.Sprintf(format, args...)}
}
